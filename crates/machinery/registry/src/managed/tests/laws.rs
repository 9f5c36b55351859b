//! The algebra's laws, on whatever comes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::owned::set_of;
use super::*;

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        "[a-c]{1}".prop_map(|name| Element::field(&name)),
        (0..2i64, "[a-b]{1}")
            .prop_map(|(port, name)| Element::key(vec![("p".into(), port.into()), ("n".into(), name.into())])),
        "[a-b]{1}".prop_map(|text| Element::Value(text.into())),
        (0..2i64).prop_map(Element::Index),
    ]
}

fn field_set() -> impl Strategy<Value = Set> {
    prop::collection::vec(prop::collection::vec(element(), 1..4), 0..8).prop_map(|paths| {
        let mut set = Set::default();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

fn labels() -> impl Strategy<Value = Value> {
    let some = prop::collection::btree_map("[a-c]", "[12]", 1..3);
    prop::option::of(some).prop_map(|labels| labels.map_or(Value::Null, |labels| json!(labels)))
}

fn containers() -> impl Strategy<Value = Value> {
    let port = (prop::sample::select(vec![80, 443]), prop::option::of("[xy]"))
        .prop_map(|(port, name)| name.map_or(json!({"port": port}), |name| json!({"port": port, "name": name})));
    let ports = prop::collection::vec(port, 0..3).prop_map(|ports| {
        let unique: BTreeMap<i64, Value> =
            ports.into_iter().map(|port| (port["port"].as_i64().unwrap(), port)).collect();
        Value::from_iter(unique.into_values())
    });
    let container = ("[a-c]", prop::option::of("[12]"), ports).prop_map(|(name, image, ports)| {
        let mut container = json!({ "name": name });
        if let Some(image) = image {
            container["image"] = image.into();
        }
        if ports != json!([]) {
            container["ports"] = ports;
        }
        container
    });
    prop::collection::vec(container, 1..4).prop_map(|containers| {
        let mut seen = Vec::new();
        let fresh = |container: &Value| {
            let name = container["name"].clone();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        };
        Value::from_iter(containers.into_iter().filter(fresh))
    })
}

pub(super) fn config() -> impl Strategy<Value = Value> {
    let parts = (
        labels(),
        prop::option::of(1..4i64),
        prop::option::of(containers()),
        prop::option::of(prop::collection::btree_set("[a-c]", 1..3)),
        prop::option::of(prop::collection::btree_map("[ab]", "[12]", 1..2)),
        prop::option::of("[12]"),
    );
    parts.prop_map(|(labels, replicas, containers, tags, selector, kind)| {
        let mut spec = serde_json::Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| spec.insert(name.to_owned(), value));
        put("replicas", replicas.map(Value::from));
        put("containers", containers);
        put("tags", tags.map(|tags| json!(tags)));
        put("selector", selector.map(|selector| json!(selector)));
        put("strategy", kind.map(|kind| json!({ "type": kind })));
        let spec = if spec.is_empty() { Value::Null } else { Value::Object(spec) };
        thing(labels, spec)
    })
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply(&'static str, Value),
    Update(Value),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop::sample::select(vec!["one", "two"]), config()).prop_map(|(who, config)| Step::Apply(who, config)),
        1 => config().prop_map(Step::Update),
    ]
}

pub(super) fn play(steps: &[Step]) -> Stored {
    let mut stored = Stored::new();
    for step in steps {
        match step {
            Step::Apply(who, config) => drop(stored.apply(who, config, true).unwrap()),
            Step::Update(object) => {
                let mut whole = empty();
                whole["metadata"] = object["metadata"].clone();
                if let Some(spec) = object.get("spec") {
                    whole["spec"] = spec.clone();
                }
                if stored.ledger.is_empty() {
                    let created = Stored::create("updater", &whole);
                    stored = created;
                } else {
                    stored.update("updater", "2024-03-03T00:00:00Z", &whole);
                }
            }
        }
    }
    stored
}

/// Every path of the object, shells included.
pub(super) fn everything(object: &Value) -> Set {
    let place = Place::from(*SCHEMA);
    super::super::owned::with_declared(place, &set_of(place, object))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn sets_are_sets(a in field_set(), b in field_set(), c in field_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert_eq!(a.paths().len(), a.len());
        prop_assert!(a.paths().iter().all(|path| a.has(path)));
        prop_assert!(a.leaves().difference(&a).is_empty());
        prop_assert!(a.recursive_difference(&b).difference(&a.difference(&b)).is_empty());
    }

    #[test]
    fn texts_round_trip(set in field_set()) {
        prop_assert_eq!(Set::parse(&set.print()).unwrap(), set);
    }

    #[test]
    fn any_text_parses_or_fails(text in r#"(\{|\}|"f:a"|"k:\{\\"a\\":1\}"|"v:1"|"\."|:|,|\[|null|1|"[a-z:]{0,3}"){0,12}"#) {
        if let Ok(set) = Set::parse(&text) {
            prop_assert_eq!(Set::parse(&set.print()).unwrap(), set);
        }
        let _ = Ledger::parse(&text);
    }

    #[test]
    fn applying_twice_is_applying_once(steps in prop::collection::vec(step(), 0..5), config in config()) {
        let mut stored = play(&steps);
        stored.apply("one", &config, true).unwrap();
        let (object, ledger) = (stored.object.clone(), stored.ledger.print());
        prop_assert!(!stored.apply("one", &config, false).unwrap(), "the second changes nothing and meets no conflict");
        prop_assert_eq!(stored.object, object);
        prop_assert_eq!(stored.ledger.print(), ledger);
    }

    #[test]
    fn what_is_owned_is_there(steps in prop::collection::vec(step(), 1..6)) {
        let stored = play(&steps);
        let there = everything(&stored.object);
        for entry in stored.ledger.entries() {
            let set = entry.set().unwrap();
            prop_assert!(!set.is_empty());
            let missing = set.difference(&there);
            prop_assert!(missing.is_empty(), "{} owns {} of {}", entry.writer.manager, missing.print(), stored.object);
        }
    }

    #[test]
    fn an_applied_configuration_is_in_the_result(steps in prop::collection::vec(step(), 0..4), config in config()) {
        let mut stored = play(&steps);
        stored.apply("one", &config, true).unwrap();
        let place = Place::from(*SCHEMA);
        let left = super::super::compare::compare(place, &config, &stored.object);
        prop_assert!(left.modified.is_empty() && left.removed.is_empty(), "{left:?}");
    }

    #[test]
    fn giving_everything_up_removes_what_nobody_else_owns(mut steps in prop::collection::vec(step(), 1..5)) {
        // An item goes with its applier, whatever an updater has put into it.
        steps.retain(|step| matches!(step, Step::Apply(..)));
        let mut stored = play(&steps);
        // A map that has lost its last entry is gone too, whoever owned the map.
        let before = everything(&stored.object).leaves();
        let given_up = stored.set("one");
        let others = stored.set("two").union(&stored.set("updater")).union(&stored.set("before-first-apply"));
        stored.apply("one", &thing(Value::Null, Value::Null), false).unwrap();
        let after = everything(&stored.object);
        let gone = before.difference(&after);
        // Nothing of others goes, and of leaves everything that was only this manager's.
        prop_assert!(gone.intersection(&others).is_empty(), "took {} from others", gone.intersection(&others).print());
        let left = given_up.leaves().difference(&others).intersection(&after);
        let place = Place::from(*SCHEMA);
        let kept_for_others = super::super::owned::with_declared(place, &others);
        prop_assert!(left.difference(&kept_for_others).is_empty(), "left {} in {}", left.print(), stored.object);
        prop_assert!(stored.set("one").is_empty());
    }

    #[test]
    fn the_quick_ledger_of_a_creation_is_the_long_one(config in config()) {
        let write = write("one", Operation::Update, "2024-01-01T00:00:00Z");
        let quick = created(kind().place, &empty(), &config, &["status"], &write.writer, &write.time);
        let long = updated(&kind(), &empty(), &config, &Ledger::default(), &write).unwrap().unwrap_or_default();
        prop_assert_eq!(quick.unwrap_or_else(|| "[]".into()), long.print());
    }
}
