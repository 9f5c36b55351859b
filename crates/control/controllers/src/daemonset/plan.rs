//! What a DaemonSet must do next: pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use base_meta::selector::LabelSelector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};

use super::eligible::{Eligibility, Place};
use super::pod::HASH;
use super::rolling::{self, OnNode};
use crate::fraction::{self, Round};
use crate::nodes::NodeFacts;
use crate::replicaset::Unknown;
use crate::world::{Phase, PodFacts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not wanted there, or not any more.
    Surplus,
    /// Ended, which a daemon does not: another is to take its place.
    Failed,
    Succeeded,
    /// Of an older template.
    Old,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub adopt: Vec<String>,
    pub release: Vec<String>,
    /// Nodes that get a pod.
    pub create: Vec<String>,
    pub delete: Vec<(String, Why)>,
    /// A pod becomes available only by time passing: look again then.
    pub recheck: Option<SignedDuration>,
    pub status: DaemonSetStatus,
}

pub struct Given<'a> {
    pub set: &'a DaemonSet,
    /// Those of the namespace.
    pub pods: &'a [&'a PodFacts],
    pub nodes: &'a [&'a NodeFacts],
    /// Of the current template.
    pub hash: &'a str,
    /// How long at most a ready pod is not to be counted on, since data planes do not know it yet.
    pub unknown: Unknown<'a>,
    /// Whether a failed pod of that node may be replaced now.
    pub may_replace: &'a dyn Fn(&str) -> bool,
    pub now: Timestamp,
}

/// How many pods may be missing, and be there twice, while they are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    OnDelete,
    Rolling { unavailable: i32, surge: i32 },
}

pub fn plan(given: &Given<'_>) -> Plan {
    let spec = given.set.spec.clone().unwrap_or_default();
    let mut plan = Plan::default();
    let mine = claim(given, &mut plan);
    let eligibility = Eligibility::of(&spec.template.spec.clone().unwrap_or_default());
    let places: BTreeMap<&str, Place> =
        given.nodes.iter().map(|node| (node.name.as_str(), eligibility.of_node(node))).collect();
    let wanted = places.values().filter(|place| **place == Place::Wanted).count();
    let update = update(given.set, i32::try_from(wanted).unwrap_or(i32::MAX));
    let surges = matches!(update, Update::Rolling { surge, .. } if surge > 0);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let left = |pod: &PodFacts| available_in(pod, min_ready, given.now).max((given.unknown)(pod));
    let available = |pod: &PodFacts| pod.ready() && left(pod).is_none();

    let mut by_node: BTreeMap<&str, Vec<&PodFacts>> = places.keys().map(|node| (*node, Vec::new())).collect();
    for pod in &mine {
        match pod.destination() {
            Some(node) if places.contains_key(node) => by_node.entry(node).or_default().push(pod),
            // Never scheduled, and its node is gone.
            Some(_) if pod.node.is_none() && !pod.deleting => plan.delete.push((pod.key.name.clone(), Why::Surplus)),
            _ => {}
        }
    }
    for pods in by_node.values_mut() {
        pods.sort_by_key(|pod| (pod.node.is_none(), pod.created, pod.key.name.clone()));
    }
    for (node, pods) in &by_node {
        keep(given, node, places[node], pods, surges, &available, &mut plan);
    }
    if plan.create.is_empty()
        && plan.delete.is_empty()
        && let Update::Rolling { unavailable, surge } = update
    {
        let nodes: Vec<OnNode<'_>> = by_node
            .iter()
            .filter(|(node, pods)| places[*node] == Place::Wanted || !pods.is_empty())
            .map(|(node, pods)| OnNode::of(node, pods, given.hash))
            .collect();
        let step = rolling::step(&nodes, unavailable, surge, &available);
        plan.create.extend(step.create);
        plan.delete.extend(step.delete.into_iter().map(|pod| (pod, Why::Old)));
    }
    plan.recheck = mine.iter().filter_map(|pod| left(pod)).min();
    plan.status = status(given, &places, &by_node, &available);
    plan
}

/// The set's own pods, with those that it takes on.
fn claim<'a>(given: &Given<'a>, plan: &mut Plan) -> Vec<&'a PodFacts> {
    let spec = given.set.spec.as_ref();
    let selector = spec.and_then(|spec| LabelSelector::from_typed(Some(&spec.selector)).ok());
    let uid = given.set.metadata.uid.as_deref().unwrap_or_default();
    let mut mine = Vec::new();
    for pod in given.pods {
        let matches =
            selector.as_ref().is_some_and(|selector| selector.matches(|key| pod.labels.get(key).map(String::as_str)));
        match &pod.controller {
            Some(owner) if owner.uid == uid && matches => mine.push(*pod),
            Some(owner) if owner.uid == uid => plan.release.push(pod.key.name.clone()),
            None if matches && pod.active() => {
                plan.adopt.push(pod.key.name.clone());
                mine.push(*pod);
            }
            _ => {}
        }
    }
    mine
}

/// One pod where one is wanted. `pods` are the node's, the oldest first.
fn keep(
    given: &Given<'_>,
    node: &str,
    place: Place,
    pods: &[&PodFacts],
    surges: bool,
    available: &dyn Fn(&PodFacts) -> bool,
    plan: &mut Plan,
) {
    let staying = pods.iter().copied().filter(|pod| !pod.deleting);
    if place == Place::Unwanted {
        plan.delete.extend(staying.map(|pod| (pod.key.name.clone(), Why::Surplus)));
        return;
    }
    if pods.is_empty() {
        if place == Place::Wanted {
            plan.create.push(node.to_owned());
        }
        return;
    }
    let mut running = Vec::new();
    for pod in staying {
        match pod.phase {
            Phase::Failed if (given.may_replace)(node) => plan.delete.push((pod.key.name.clone(), Why::Failed)),
            Phase::Failed => {}
            Phase::Succeeded => plan.delete.push((pod.key.name.clone(), Why::Succeeded)),
            _ => running.push(pod),
        }
    }
    if !surges {
        plan.delete.extend(running.iter().skip(1).map(|pod| (pod.key.name.clone(), Why::Surplus)));
        return;
    }
    if running.is_empty() && place == Place::Wanted {
        plan.create.push(node.to_owned());
    }
    // Two may be there: one of the new template that is not available yet, and one of an old that is ready.
    let (new, old): (Vec<&PodFacts>, Vec<&PodFacts>) = running.into_iter().partition(|pod| is_new(pod, given.hash));
    let extra = new.iter().skip(1).chain(old.iter().skip(1));
    plan.delete.extend(extra.map(|pod| (pod.key.name.clone(), Why::Surplus)));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!old.ready() || available(new))
    {
        plan.delete.push((old.key.name.clone(), Why::Old));
    }
}

pub fn is_new(pod: &PodFacts, hash: &str) -> bool {
    pod.labels.get(HASH).is_some_and(|label| label == hash)
}

/// How long until a ready pod counts as available; `None` when it does already, or is not ready.
fn available_in(pod: &PodFacts, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    let since = pod.ready_since.filter(|_| !pod.deleting)?;
    let wait = SignedDuration::from_secs(min_ready_seconds.into()) - now.duration_since(since);
    wait.is_positive().then_some(wait)
}

fn update(set: &DaemonSet, wanted: i32) -> Update {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Update::OnDelete;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let number = |value: Option<&_>| value.map_or(0, |value| fraction::scaled(value, wanted, Round::Up));
    let unavailable = number(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()));
    let surge = number(rolling.and_then(|rolling| rolling.max_surge.as_ref()));
    match (unavailable, surge) {
        (0, 0) => Update::Rolling { unavailable: 1, surge: 0 },
        (unavailable, surge) => Update::Rolling { unavailable, surge },
    }
}

fn status(
    given: &Given<'_>,
    places: &BTreeMap<&str, Place>,
    by_node: &BTreeMap<&str, Vec<&PodFacts>>,
    available: &dyn Fn(&PodFacts) -> bool,
) -> DaemonSetStatus {
    let old = given.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: given.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut ready_for_long) = (0, 0);
    for (node, pods) in by_node {
        if places[node] != Place::Wanted {
            status.number_misscheduled += i32::from(!pods.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let Some(pod) = pods.first() else { continue };
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pod.ready());
        ready_for_long += i32::from(available(pod));
        updated += i32::from(is_new(pod, given.hash));
    }
    let some = |number: i32| (number != 0).then_some(number);
    status.updated_number_scheduled = some(updated);
    status.number_available = some(ready_for_long);
    status.number_unavailable = some(status.desired_number_scheduled - ready_for_long);
    status
}

/// Revisions to forget: the oldest beyond the limit, save those of which there are pods.
pub fn forgotten<'a>(old: &[(i64, &'a str, &str)], live: &BTreeSet<&str>, limit: usize) -> Vec<&'a str> {
    let mut old: Vec<_> = old.to_vec();
    old.sort_by_key(|(revision, ..)| Reverse(*revision));
    let surplus = old.len().saturating_sub(limit);
    old.iter().rev().filter(|(_, _, hash)| !live.contains(hash)).take(surplus).map(|(_, name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use machinery_client::ObjectKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::nodes::testing::node;
    use crate::world::Owner;

    fn set(strategy: Value) -> DaemonSet {
        serde_json::from_value(json!({
            "metadata": {"name": "agent", "namespace": "default", "uid": "set", "generation": 4},
            "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "updateStrategy": strategy,
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}},
            },
        }))
        .expect("a DaemonSet")
    }

    fn rolling(unavailable: i32, surge: i32) -> Value {
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
    }

    /// A running pod `name` on its node, of revision `hash`.
    fn pod(name: &str, on: &str, hash: &str) -> PodFacts {
        let owner = Owner { kind: "DaemonSet".into(), name: "agent".into(), uid: "set".into(), ..Owner::default() };
        PodFacts {
            key: ObjectKey::new("default", name),
            labels: [("app".to_owned(), "a".to_owned()), (HASH.to_owned(), hash.to_owned())].into(),
            controller: Some(owner),
            node: Some(on.into()),
            phase: Phase::Running,
            ready_since: Some(Timestamp::UNIX_EPOCH),
            ..PodFacts::default()
        }
    }

    fn planned(set: &DaemonSet, nodes: &[NodeFacts], pods: &[PodFacts]) -> Plan {
        plan(&Given {
            set,
            pods: &pods.iter().collect::<Vec<_>>(),
            nodes: &nodes.iter().collect::<Vec<_>>(),
            hash: "new",
            unknown: &|_| None,
            may_replace: &|_| true,
            now: Timestamp::UNIX_EPOCH,
        })
    }

    fn three() -> Vec<NodeFacts> {
        ["one", "two", "three"].map(|name| node(name, "True")).to_vec()
    }

    #[test]
    fn each_node_has_one() {
        let plan = planned(&set(rolling(1, 0)), &three(), &[pod("a", "one", "new")]);
        assert_eq!((plan.create, plan.delete), (vec!["three".into(), "two".into()], vec![]));
        let status = plan.status;
        let numbers = (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready);
        assert_eq!((numbers, status.number_unavailable), ((3, 1, 1), Some(2)));
        let mut second = pod("b", "one", "new");
        second.created = Some(Timestamp::UNIX_EPOCH);
        let one = [node("one", "True")];
        let plan = planned(&set(rolling(1, 0)), &one, &[pod("a", "one", "new"), second]);
        assert_eq!(plan.delete, [("b".to_owned(), Why::Surplus)]);
    }

    #[test]
    fn what_has_ended_is_replaced_and_what_is_not_wanted_goes() {
        let mut nodes = three();
        nodes[2].taints.push(api::taint::of("gpu", api::taint::NO_EXECUTE));
        let mut pods = vec![pod("a", "one", "new"), pod("b", "two", "new"), pod("c", "three", "new")];
        pods[0].phase = Phase::Failed;
        pods[1].phase = Phase::Succeeded;
        let plan = planned(&set(rolling(1, 0)), &nodes, &pods);
        let expected = [("a".to_owned(), Why::Failed), ("c".into(), Why::Surplus), ("b".into(), Why::Succeeded)];
        assert_eq!((plan.delete.as_slice(), plan.create.len()), (expected.as_slice(), 0));
        assert_eq!(plan.status.number_misscheduled, 1);
    }

    #[test]
    fn old_pods_go_as_many_at_once_as_may_be_missing() {
        let pods = [pod("a", "one", "old"), pod("b", "two", "old"), pod("c", "three", "old")];
        assert_eq!(planned(&set(rolling(2, 0)), &three(), &pods).delete.len(), 2);
        assert_eq!(planned(&set(rolling(0, 0)), &three(), &pods).delete.len(), 1);
        assert_eq!(planned(&set(json!({"type": "OnDelete"})), &three(), &pods).delete.len(), 0);
        let mut missing = pods.clone();
        missing[0] = pod("a", "one", "new");
        missing[0].ready_since = None;
        assert_eq!(planned(&set(rolling(1, 0)), &three(), &missing).delete, [], "one is missing already");
        let mut sick = pods.clone();
        sick[1].ready_since = None;
        assert_eq!(planned(&set(rolling(1, 0)), &three(), &sick).delete, [("b".to_owned(), Why::Old)]);
    }

    #[test]
    fn a_surge_starts_the_new_one_first() {
        let mut pods = vec![pod("a", "one", "old"), pod("b", "two", "old"), pod("c", "three", "old")];
        let first = planned(&set(rolling(0, 1)), &three(), &pods);
        assert_eq!((first.create, first.delete.len()), (vec!["one".into()], 0));
        pods.push(pod("a2", "one", "new"));
        pods[3].ready_since = None;
        let second = planned(&set(rolling(0, 1)), &three(), &pods);
        assert_eq!((second.create.len(), second.delete.len()), (0, 0), "it is not available yet");
        pods[3].ready_since = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(planned(&set(rolling(0, 1)), &three(), &pods).delete, [("a".to_owned(), Why::Old)]);
    }

    #[test]
    fn revisions_with_pods_are_remembered() {
        let old = [(1, "r1", "h1"), (3, "r3", "h3"), (2, "r2", "h2")];
        assert_eq!(forgotten(&old, &BTreeSet::new(), 1), ["r1", "r2"]);
        assert_eq!(forgotten(&old, &BTreeSet::from(["h1"]), 2), ["r2"]);
        assert!(forgotten(&old, &BTreeSet::new(), 3).is_empty());
    }
}
