use std::net::Ipv4Addr;

use super::*;
use crate::frontend::{Affinity, FrontendAddress, Origin, Otherwise, Protocol};

const WEB: Frontend = Frontend {
    origin: Origin::Cluster,
    address: FrontendAddress::Ip(IpAddr::V4(Ipv4Addr::new(10, 43, 0, 9))),
    protocol: Protocol::Tcp,
    port: 80,
};

fn endpoint(last: u8) -> Endpoint {
    Endpoint { ip: [10, 42, 0, last].into(), port: 8080 }
}

fn backends(list: &[u8]) -> Backends {
    Backends::from(list.iter().copied().map(endpoint).collect::<BTreeSet<_>>())
}

fn plain(count: usize) -> Pick {
    if count == 0 { Pick::none(Otherwise::Refuse) } else { Pick::plain(count) }
}

fn slots(list: &[u8]) -> Slots {
    Slots { endpoints: list.iter().copied().map(endpoint).collect(), pick: Some(plain(list.len())), ..Slots::default() }
}

fn change(old: Option<&[u8]>, wanted: Option<&[u8]>) -> Changes {
    let current = old.map(|old| (WEB, slots(old))).into_iter().collect();
    let wanted = BTreeMap::from([(WEB, wanted.map(backends))]);
    Changes::of(&current, &wanted)
}

fn last(ip: IpAddr) -> u8 {
    let IpAddr::V4(ip) = ip else { panic!("{ip} is not of this test") };
    ip.octets()[3]
}

fn after(changes: &Changes) -> Vec<u8> {
    changes.after[&WEB].iter().flat_map(|slots| &slots.endpoints).map(|endpoint| last(endpoint.ip)).collect()
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
    let old = slots(&[2, 3]);
    let wanted = Backends { affinity: Some(Affinity::DEFAULT), ..backends(&[2, 3]) };
    let pick = Pick::of(&wanted);
    let changes = Changes::of(&HashMap::from([(WEB, old)]), &BTreeMap::from([(WEB, Some(wanted))]));
    let first = Step { remove_counts: vec![WEB], add_counts: vec![(WEB, pick)], ..Step::default() };
    assert_eq!((changes.first, changes.second), (first, Step::default()));
}

#[test]
fn what_an_earlier_run_left_half_done_is_finished() {
    // It stopped between two steps: the count is down, the survivor is in two slots.
    let left =
        Slots { endpoints: vec![endpoint(4), endpoint(3), endpoint(4)], pick: Some(plain(2)), ..Slots::default() };
    let wanted = |list: &[u8]| BTreeMap::from([(WEB, Some(backends(list)))]);
    let changes = Changes::of(&HashMap::from([(WEB, left.clone())]), &wanted(&[3, 4]));
    assert!(changes.first.is_empty());
    assert_eq!(changes.second.remove_slots, [(WEB, 2)]);
    let changes = Changes::of(&HashMap::from([(WEB, left)]), &wanted(&[3, 4, 5]));
    assert_eq!(changes.first.add_slots, [(WEB, 2, endpoint(5))]);
    // Slots of a front end that went.
    let gone = Slots { endpoints: vec![endpoint(2)], ..Slots::default() };
    let changes = Changes::of(&HashMap::from([(WEB, gone)]), &BTreeMap::from([(WEB, None)]));
    assert_eq!((changes.first.clone(), changes.second.remove_slots), (Step::default(), vec![(WEB, 0)]));
}

#[test]
fn a_guards_blocks_come_with_it_and_go_after_it() {
    let block = |text: &str| text.parse::<IpCidr>().expect("a block");
    let guarded =
        |list: &[&str]| Backends { sources: Some(list.iter().map(|text| block(text)).collect()), ..backends(&[2]) };
    let current = HashMap::from([(WEB, slots(&[2]))]);
    let on = Changes::of(&current, &BTreeMap::from([(WEB, Some(guarded(&["10.0.0.0/8"])))]));
    assert_eq!(on.first.add_sources, [(WEB, block("10.0.0.0/8"))]);
    assert!(on.first.add_counts[0].1.is_guarded());
    let current = HashMap::from([(WEB, on.after[&WEB].clone().expect("it stays"))]);
    // Another block replaces it in one transaction: the kernel takes none that overlap.
    let other = Changes::of(&current, &BTreeMap::from([(WEB, Some(guarded(&["10.0.0.0/7"])))]));
    assert_eq!(other.first.remove_sources, [(WEB, block("10.0.0.0/8"))]);
    assert!(other.first.add_counts.is_empty() && other.second.is_empty());
    let off = Changes::of(&current, &BTreeMap::from([(WEB, Some(backends(&[2])))]));
    assert_eq!(off.first.add_counts, [(WEB, plain(1))]);
    assert_eq!(off.second.remove_sources, [(WEB, block("10.0.0.0/8"))]);
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
                count = new.code();
            }
            assert!((0..count).all(|slot| slots.contains_key(&slot)), "{from:?} to {to:?}");
        }
        let wanted: BTreeSet<Endpoint> = to.iter().copied().map(endpoint).collect();
        assert_eq!(slots.into_values().collect::<BTreeSet<_>>(), wanted, "{from:?} to {to:?}");
        assert_eq!(count as usize, to.len());
    }
}
