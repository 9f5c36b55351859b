//! The taints that say how a node is: made from its conditions, so that each pod can say what it stands.

use api::taint::{self, NO_EXECUTE, NO_SCHEDULE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::nodes::{NodeFacts, Readiness};

/// Condition, its status, and the taint that follows.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", taint::NOT_READY),
    ("Ready", "Unknown", taint::UNREACHABLE),
    ("MemoryPressure", "True", taint::MEMORY_PRESSURE),
    ("DiskPressure", "True", taint::DISK_PRESSURE),
    ("NetworkUnavailable", "True", taint::NETWORK_UNAVAILABLE),
    ("PIDPressure", "True", taint::PID_PRESSURE),
];

/// The taint by which pods leave a node that is not ready.
pub fn evicting(node: &NodeFacts) -> Option<Taint> {
    match node.readiness() {
        Readiness::NotReady => Some(taint::of(taint::NOT_READY, NO_EXECUTE)),
        Readiness::Unknown => Some(taint::of(taint::UNREACHABLE, NO_EXECUTE)),
        Readiness::Ready | Readiness::Unreported => None,
    }
}

fn evicts(one: &Taint) -> bool {
    one.effect == NO_EXECUTE && [taint::NOT_READY, taint::UNREACHABLE].contains(&one.key.as_str())
}

/// What a node has from its first moment on.
fn is_new(one: &Taint) -> bool {
    taint::same(one, &taint::of(taint::NOT_READY, NO_SCHEDULE))
}

/// Whether pods are leaving it because it is not ready.
pub fn is_evicting(node: &NodeFacts) -> bool {
    node.taints.iter().any(evicts)
}

/// All of the node's taints as they should be at once; `None` when they are. A NoExecute taint is never put on a node
/// that has none, which takes its turn elsewhere: it is kept, changed into the other, or taken off a node that is ready.
pub fn at_once(node: &NodeFacts, now: Timestamp) -> Option<Vec<Taint>> {
    let holds = |(kind, status, _): &&(&str, &str, &str)| node.condition(kind).is_some_and(|one| one.status == *status);
    let mut wanted: Vec<Taint> =
        BY_CONDITION.iter().filter(holds).map(|(_, _, key)| taint::of(key, NO_SCHEDULE)).collect();
    // Admission put it there: it goes once somebody has said how the node is.
    if node.readiness() == Readiness::Unreported && node.taints.iter().any(is_new) {
        wanted.push(taint::of(taint::NOT_READY, NO_SCHEDULE));
    }
    if node.unschedulable {
        wanted.push(taint::of(taint::UNSCHEDULABLE, NO_SCHEDULE));
    }
    if is_evicting(node) {
        wanted.extend(evicting(node));
    }
    change(node, &wanted, is_ours, now)
}

/// With the taint by which pods leave it.
pub fn with_evicting(node: &NodeFacts, now: Timestamp) -> Option<Vec<Taint>> {
    let wanted = evicting(node)?;
    change(node, &[wanted], evicts, now)
}

/// Without one, whatever its condition says.
pub fn without_evicting(node: &NodeFacts, now: Timestamp) -> Option<Vec<Taint>> {
    change(node, &[], evicts, now)
}

fn is_ours(one: &Taint) -> bool {
    let by_condition = one.effect == NO_SCHEDULE && BY_CONDITION.iter().any(|(_, _, key)| *key == one.key);
    by_condition || evicts(one) || taint::same(one, &taint::of(taint::UNSCHEDULABLE, NO_SCHEDULE))
}

/// The node's taints, where those that are `ours` become `wanted`; `None` when they are that already.
fn change(node: &NodeFacts, wanted: &[Taint], ours: fn(&Taint) -> bool, now: Timestamp) -> Option<Vec<Taint>> {
    let stays = |one: &&Taint| !ours(one) || wanted.iter().any(|wanted| taint::same(wanted, one));
    let mut taints: Vec<Taint> = node.taints.iter().filter(stays).cloned().collect();
    let missing = wanted.iter().filter(|wanted| !node.taints.iter().any(|one| taint::same(one, wanted)));
    taints.extend(missing.map(|one| Taint { time_added: Some(Time(now)), ..one.clone() }));
    (taints != node.taints).then_some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{condition, node};

    fn told(taints: Option<Vec<Taint>>) -> Option<Vec<String>> {
        taints.map(|taints| taints.iter().map(|one| format!("{}:{}", one.key, one.effect)).collect())
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_node_that_nobody_has_reported_keeps_the_taint_of_a_new_one() {
        let mut node = node("one", "True");
        node.conditions.clear();
        assert_eq!(told(at_once(&node, now())), None);
        node.taints = vec![taint::of(taint::NOT_READY, NO_SCHEDULE)];
        assert_eq!(told(at_once(&node, now())), None);
        node.conditions.push(condition("Ready", "True"));
        assert_eq!(told(at_once(&node, now())), Some(vec![]));
    }

    #[test]
    fn conditions_become_taints_and_others_stay() {
        let mut node = node("one", "Unknown");
        node.conditions.push(condition("DiskPressure", "True"));
        node.conditions.push(condition("MemoryPressure", "False"));
        node.unschedulable = true;
        node.taints = vec![taint::of("gpu", NO_SCHEDULE), taint::of(taint::NOT_READY, NO_SCHEDULE)];
        let expected = [
            "gpu:NoSchedule",
            "node.kubernetes.io/unreachable:NoSchedule",
            "node.kubernetes.io/disk-pressure:NoSchedule",
            "node.kubernetes.io/unschedulable:NoSchedule",
        ];
        assert_eq!(told(at_once(&node, now())), Some(expected.map(str::to_owned).to_vec()));
        node.taints = at_once(&node, now()).expect("taints");
        assert!(node.taints[1..].iter().all(|one| one.time_added == Some(Time(now()))));
        assert_eq!(told(at_once(&node, now())), None);
    }

    #[test]
    fn a_node_that_is_ready_has_none_of_them() {
        let mut node = node("one", "True");
        node.taints = [taint::NOT_READY, taint::UNREACHABLE]
            .iter()
            .flat_map(|key| [taint::of(key, NO_SCHEDULE), taint::of(key, NO_EXECUTE)])
            .collect();
        assert_eq!(told(at_once(&node, now())), Some(vec![]));
    }

    #[test]
    fn pods_leave_for_one_reason_at_a_time_and_in_turn() {
        let mut node = node("one", "Unknown");
        node.taints = vec![taint::of(taint::UNREACHABLE, NO_SCHEDULE)];
        assert_eq!(told(at_once(&node, now())), None, "its turn has not come");
        node.taints = with_evicting(&node, now()).expect("a taint more");
        assert!(is_evicting(&node) && with_evicting(&node, now()).is_none());
        node.conditions = vec![condition("Ready", "False")];
        let swapped = ["node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"];
        assert_eq!(told(at_once(&node, now())), Some(swapped.map(str::to_owned).to_vec()));
        assert_eq!(
            told(without_evicting(&node, now())),
            Some(vec!["node.kubernetes.io/unreachable:NoSchedule".into()])
        );
    }
}
