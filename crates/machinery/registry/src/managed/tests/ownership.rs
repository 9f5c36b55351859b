//! What every applier may rely on, whoever else writes.

use proptest::prelude::*;

use super::super::compare::compare;
use super::laws::{Step, config, everything, play, step};
use super::*;

const WRITERS: [&str; 3] = ["one", "two", "updater"];

fn configs() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..5)
}

/// Lists in one order: which of two came first shows in it, and in nothing else.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(Value::to_string);
            items.into()
        }
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), unordered(value))).collect(),
        plain => plain.clone(),
    }
}

fn play_applies(steps: &[Step]) -> Stored {
    let applies: Vec<Step> = steps.iter().filter(|step| matches!(step, Step::Apply(..))).cloned().collect();
    play(&applies)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn an_applier_owns_exactly_what_it_applied(steps in configs(), config in config()) {
        let mut stored = play(&steps);
        stored.apply("one", &config, true).unwrap();
        let mut alone = Stored::new();
        alone.apply("one", &config, true).unwrap();
        prop_assert_eq!(stored.owns("one"), alone.owns("one"));
    }

    #[test]
    fn every_field_has_an_owner(steps in configs()) {
        let stored = play_applies(&steps);
        let owned = WRITERS.iter().fold(Set::default(), |all, writer| all.union(&stored.set(writer)));
        let leaves = everything(&stored.object).leaves();
        let identity = Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata", "name"]]);
        // Of what is not there yet, the empty object has shells.
        let orphans = leaves.difference(&owned).difference(&identity).difference(&everything(&empty()));
        prop_assert!(orphans.is_empty(), "{} of {} is nobody's", orphans.print(), stored.object);
    }

    #[test]
    fn what_does_not_conflict_commutes(one in config(), two in config()) {
        let play = |first: (&str, &Value), second: (&str, &Value)| -> Option<Stored> {
            let mut stored = Stored::new();
            stored.apply(first.0, first.1, false).unwrap();
            stored.apply(second.0, second.1, false).ok()?;
            Some(stored)
        };
        let (there, back) = (play(("one", &one), ("two", &two)), play(("two", &two), ("one", &one)));
        prop_assert_eq!(there.is_some(), back.is_some(), "a conflict in one order alone");
        if let (Some(there), Some(back)) = (there, back) {
            prop_assert_eq!(unordered(&there.object), unordered(&back.object));
            for writer in WRITERS {
                prop_assert_eq!(there.owns(writer), back.owns(writer));
            }
        }
    }

    #[test]
    fn without_force_nothing_of_others_changes(steps in configs(), config in config()) {
        let mut stored = play(&steps);
        let before = stored.clone();
        let theirs = before.set("two").union(&before.set("updater"));
        match stored.apply("one", &config, false) {
            Ok(_) => {
                let changed = compare(Place::from(*SCHEMA), &before.object, &stored.object);
                prop_assert!(changed.modified.intersection(&theirs).is_empty(), "{changed:?}");
                // An item goes with its applier, whatever an updater has put into it.
                let removed = changed.removed.leaves().intersection(&before.set("two"));
                prop_assert!(removed.is_empty(), "removed {}", removed.print());
                prop_assert_eq!(before.owns("two"), stored.owns("two"));
            }
            Err(status) => {
                prop_assert_eq!(status.code, 409);
                prop_assert_eq!((before.object, before.ledger.print()), (stored.object, stored.ledger.print()));
            }
        }
    }

    #[test]
    fn force_takes_what_it_changes_and_nothing_else(steps in configs(), config in config()) {
        let mut stored = play(&steps);
        let before = stored.clone();
        stored.apply("one", &config, true).unwrap();
        let changed = compare(Place::from(*SCHEMA), &before.object, &stored.object);
        let mine = stored.set("one");
        let missing = changed.modified.leaves().difference(&mine);
        prop_assert!(missing.is_empty(), "changed {} and does not own it", missing.print());
        for other in ["two", "updater"] {
            let lost = before.set(other).difference(&stored.set(other));
            let kept = changed.modified.leaves().intersection(&stored.set(other));
            prop_assert!(kept.is_empty(), "{other} still owns {}", kept.print());
            // An item goes with its applier, whatever an updater has put into it.
            let lost = if other == "two" { lost.leaves() } else { Set::default() };
            let stolen = lost.difference(&changed.changed()).difference(&mine);
            prop_assert!(stolen.is_empty(), "{other} lost {}", stolen.print());
        }
    }

    #[test]
    fn a_field_that_two_apply_outlives_one_of_them(config in config()) {
        let mut stored = Stored::new();
        stored.apply("one", &config, false).unwrap();
        stored.apply("two", &config, false).unwrap();
        let shared = stored.object.clone();
        stored.apply("one", &thing(Value::Null, Value::Null), false).unwrap();
        prop_assert_eq!(&stored.object, &shared);
        stored.apply("two", &thing(Value::Null, Value::Null), false).unwrap();
        let left = everything(&stored.object).leaves().intersection(&everything(&shared));
        let identity = Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata", "name"]]);
        let left = left.difference(&identity).difference(&everything(&empty()));
        prop_assert!(left.is_empty(), "left {} in {}", left.print(), stored.object);
    }
}
