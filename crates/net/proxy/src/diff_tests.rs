use super::*;
use crate::frontend::{FrontendAddress, Origin, Protocol};

const WEB: Frontend = Frontend {
    origin: Origin::Cluster,
    address: FrontendAddress::Ip(Ipv4Addr::new(10, 43, 0, 9)),
    protocol: Protocol::Tcp,
    port: 80,
};

fn endpoint(last: u8) -> Endpoint {
    Endpoint { ip: Ipv4Addr::new(10, 42, 0, last), port: 8080 }
}

fn backends(list: &[u8]) -> Backends {
    Backends::from(list.iter().copied().map(endpoint).collect::<BTreeSet<_>>())
}

fn plain(count: usize) -> Pick {
    Pick::new(count, None)
}

fn change(old: Option<&[u8]>, wanted: Option<&[u8]>) -> Changes {
    let slots = |list: &[u8]| Slots { endpoints: list.iter().copied().map(endpoint).collect(), affinity: None };
    let current = old.map(|old| (WEB, slots(old))).into_iter().collect();
    let wanted = BTreeMap::from([(WEB, wanted.map(backends))]);
    Changes::of(&current, &wanted)
}

fn after(changes: &Changes) -> Vec<u8> {
    changes.after[&WEB].iter().flat_map(|slots| &slots.endpoints).map(|endpoint| endpoint.ip.octets()[3]).collect()
}

#[test]
fn nothing_changes_for_the_same_endpoints_in_any_slots() {
    assert!(change(Some(&[3, 2]), Some(&[2, 3])).is_empty());
    assert!(change(None, None).is_empty());
    assert!(change(Some(&[]), Some(&[])).is_empty());
}

#[test]
fn growing_takes_one_step() {
    let changes = change(Some(&[2]), Some(&[2, 3]));
    assert_eq!(changes.first.add_slots, [(WEB, 1, endpoint(3))]);
    assert_eq!(
        (changes.first.remove_counts.as_slice(), changes.first.add_counts.as_slice()),
        (&[WEB][..], &[(WEB, plain(2))][..])
    );
    assert!(changes.second.is_empty());
}

#[test]
fn shrinking_lowers_the_count_before_the_slot_goes() {
    let changes = change(Some(&[2, 3, 4]), Some(&[3, 4]));
    assert_eq!(changes.first.remove_slots, [(WEB, 0)]);
    assert_eq!(changes.first.add_slots, [(WEB, 0, endpoint(4))]);
    assert_eq!(changes.first.add_counts, [(WEB, plain(2))]);
    assert_eq!(changes.second, Step { remove_slots: vec![(WEB, 2)], ..Step::default() });
    assert_eq!(after(&changes), [4, 3]);
}

#[test]
fn a_replacement_touches_one_slot_and_no_count() {
    let changes = change(Some(&[2, 3]), Some(&[3, 9]));
    assert_eq!(changes.first.remove_slots, [(WEB, 0)]);
    assert_eq!(changes.first.add_slots, [(WEB, 0, endpoint(9))]);
    assert!(changes.first.add_counts.is_empty() && changes.second.is_empty());
}

#[test]
fn a_new_service_without_endpoints_is_a_count_of_zero() {
    let changes = change(None, Some(&[]));
    assert_eq!(changes.first, Step { add_counts: vec![(WEB, plain(0))], ..Step::default() });
}

#[test]
fn a_gone_service_loses_its_count_first() {
    let changes = change(Some(&[2, 3]), None);
    assert_eq!(changes.first, Step { remove_counts: vec![WEB], ..Step::default() });
    assert_eq!(changes.second.remove_slots, [(WEB, 0), (WEB, 1)]);
    assert_eq!(changes.after[&WEB], None);
}

#[test]
fn another_affinity_is_another_count_and_no_other_slot() {
    let old = Slots { endpoints: vec![endpoint(2), endpoint(3)], affinity: None };
    let wanted = Backends { affinity: Some(Affinity::DEFAULT), ..backends(&[2, 3]) };
    let changes = Changes::of(&HashMap::from([(WEB, old)]), &BTreeMap::from([(WEB, Some(wanted))]));
    let first = Step {
        remove_counts: vec![WEB],
        add_counts: vec![(WEB, Pick::new(2, Some(Affinity::DEFAULT)))],
        ..Step::default()
    };
    assert_eq!((changes.first, changes.second), (first, Step::default()));
}

/// Applies the steps to a model of the kernel's maps, for every pair of endpoint sets over five addresses: no step may
/// add what exists or remove what does not, and after each step every slot below the count must be filled.
#[test]
fn every_transition_is_valid_at_each_step() {
    let subset = |bits: u8| (0..5).filter(|bit| bits & (1 << bit) != 0).collect::<Vec<u8>>();
    for (from, to) in (0..32).flat_map(|from| (0..32).map(move |to| (from, to))) {
        let (from, to) = (subset(from), subset(to));
        let changes = change(Some(&from), Some(&to));
        let mut slots: BTreeMap<u32, Endpoint> =
            from.iter().enumerate().map(|(slot, last)| (number(slot), endpoint(*last))).collect();
        let mut count = number(from.len());
        for step in [&changes.first, &changes.second] {
            for (_, slot) in &step.remove_slots {
                assert!(slots.remove(slot).is_some(), "{from:?} to {to:?}");
            }
            for (_, slot, endpoint) in &step.add_slots {
                assert!(slots.insert(*slot, *endpoint).is_none(), "{from:?} to {to:?}");
            }
            if let [(_, new)] = step.add_counts[..] {
                assert_eq!(step.remove_counts, [WEB]);
                count = new.count();
            }
            assert!((0..count).all(|slot| slots.contains_key(&slot)), "{from:?} to {to:?}");
        }
        let wanted: BTreeSet<Endpoint> = to.iter().copied().map(endpoint).collect();
        assert_eq!(slots.into_values().collect::<BTreeSet<_>>(), wanted, "{from:?} to {to:?}");
        assert_eq!(count as usize, to.len());
    }
}
