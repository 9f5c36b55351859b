//! What a ReplicaSet must do next, from what it is and the pods it may own.

use base_meta::selector::LabelSelector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::world::{Phase, PodFacts};

/// The most pods made or deleted in one step, as upstream's `BurstReplicas`.
const BURST: usize = 500;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Orphans that match: they get our owner reference.
    pub adopt: Vec<String>,
    /// Ours no more: their labels do not match.
    pub release: Vec<String>,
    pub create: usize,
    /// Names, in the order to delete them.
    pub delete: Vec<String>,
    /// A pod becomes available only by time passing: look again then.
    pub recheck: Option<SignedDuration>,
    pub status: ReplicaSetStatus,
}

/// How long at most a ready pod is not to be counted on, since data planes do not know it yet; `None` when they do.
pub type Unknown<'a> = &'a dyn Fn(&PodFacts) -> Option<SignedDuration>;

/// `pods` are those of the namespace.
pub fn plan(
    set: &ReplicaSet,
    selector: &LabelSelector,
    pods: &[&PodFacts],
    unknown: Unknown<'_>,
    now: Timestamp,
) -> Plan {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let deleting = set.metadata.deletion_timestamp.is_some();
    let spec = set.spec.clone().unwrap_or_default();
    let mut plan = Plan::default();
    let (mut mine, mut adopted) = (Vec::new(), Vec::new());
    for pod in pods {
        let matches = selector.matches(|key| pod.labels.get(key).map(String::as_str));
        match &pod.controller {
            Some(owner) if owner.uid == uid && matches => mine.push(*pod),
            Some(owner) if owner.uid == uid => {
                if !deleting {
                    plan.release.push(pod.key.name.clone());
                }
            }
            None if matches && pod.active() && !deleting => adopted.push(*pod),
            _ => {}
        }
    }
    plan.adopt = adopted.iter().map(|pod| pod.key.name.clone()).collect();
    mine.extend(adopted);
    let terminating = mine.iter().filter(|pod| pod.deleting && !pod.terminal()).count();
    let mut active: Vec<&PodFacts> = mine.into_iter().filter(|pod| pod.active()).collect();

    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if !deleting {
        if active.len() < wanted {
            plan.create = (wanted - active.len()).min(BURST);
        } else if active.len() > wanted {
            active.sort_by_key(|pod| rank(pod));
            plan.delete =
                active.iter().take((active.len() - wanted).min(BURST)).map(|pod| pod.key.name.clone()).collect();
        }
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let waits: Vec<Option<SignedDuration>> =
        active.iter().map(|pod| available_in(pod, min_ready, now).max(unknown(pod))).collect();
    plan.recheck = waits.iter().flatten().min().copied();
    let available = active.iter().zip(&waits).filter(|(pod, wait)| pod.ready() && wait.is_none()).count();
    plan.status = status(set, &active, available, terminating);
    plan
}

/// What is deleted first: unassigned, pending, not ready, then the youngest by readiness, restarts and age
/// (upstream's `ActivePodsWithRanks`, without its co-location rank).
fn rank(pod: &PodFacts) -> impl Ord + use<> {
    let phase = match pod.phase {
        Phase::Pending => 0,
        Phase::Unknown => 1,
        _ => 2,
    };
    (
        pod.node.is_some(),
        phase,
        pod.ready(),
        std::cmp::Reverse(pod.ready_since),
        std::cmp::Reverse(pod.restarts),
        std::cmp::Reverse(pod.created),
        pod.key.name.clone(),
    )
}

/// How long until a ready pod counts as available; `None` when it does already, or is not ready.
fn available_in(pod: &PodFacts, min_ready_seconds: i32, now: Timestamp) -> Option<SignedDuration> {
    let since = pod.ready_since?;
    let wait = SignedDuration::from_secs(min_ready_seconds.into()) - now.duration_since(since);
    wait.is_positive().then_some(wait)
}

fn status(set: &ReplicaSet, active: &[&PodFacts], available: usize, terminating: usize) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let template_labels =
        spec.template.and_then(|template| template.metadata).and_then(|meta| meta.labels).unwrap_or_default();
    let count = |holds: &dyn Fn(&PodFacts) -> bool| {
        i32::try_from(active.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let some = |number: i32| (number != 0).then_some(number);
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&|pod| {
            template_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
        })),
        ready_replicas: some(count(&|pod| pod.ready())),
        available_replicas: some(i32::try_from(available).unwrap_or(i32::MAX)),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: set.metadata.generation,
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    }
}

/// Sets or clears the `ReplicaFailure` condition after pods were made or deleted.
pub fn record_failure(status: &mut ReplicaSetStatus, failure: Option<(&str, String)>, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let present = conditions.iter().any(|condition| condition.type_ == "ReplicaFailure");
    match failure {
        Some((reason, message)) if !present => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time::from(now)),
        }),
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(_) => {}
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Owner;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "web", "namespace": "default", "uid": "set", "generation": 3 },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } },
            },
        }))
        .expect("a ReplicaSet")
    }

    fn pod(name: &str, owner: Option<&str>) -> PodFacts {
        PodFacts {
            key: machinery_client::ObjectKey::new("default", name),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            controller: owner.map(|uid| Owner {
                api_version: "apps/v1".into(),
                kind: "ReplicaSet".into(),
                name: "web".into(),
                uid: uid.into(),
            }),
            node: Some("one".into()),
            phase: Phase::Running,
            ready_since: Some(Timestamp::UNIX_EPOCH),
            ..PodFacts::default()
        }
    }

    fn planned(set: &ReplicaSet, pods: &[PodFacts]) -> Plan {
        let selector = LabelSelector::from_typed(Some(&set.spec.clone().expect("a spec").selector)).expect("valid");
        plan(set, &selector, &pods.iter().collect::<Vec<_>>(), &|_| None, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn missing_pods_are_made_and_foreign_ones_do_not_count() {
        let pods = [pod("mine", Some("set")), pod("theirs", Some("other"))];
        let plan = planned(&set(3), &pods);
        assert_eq!((plan.create, plan.delete.len()), (2, 0));
        assert_eq!((plan.status.replicas, plan.status.ready_replicas), (1, Some(1)));
    }

    #[test]
    fn orphans_are_adopted_and_strangers_released() {
        let mut stranger = pod("stranger", Some("set"));
        stranger.labels.clear();
        let plan = planned(&set(1), &[pod("orphan", None), stranger]);
        assert_eq!((plan.adopt, plan.release, plan.create), (vec!["orphan".into()], vec!["stranger".into()], 0));
    }

    #[test]
    fn the_least_useful_pods_go_first() {
        let mut pending = pod("a-pending", Some("set"));
        (pending.phase, pending.node, pending.ready_since) = (Phase::Pending, None, None);
        let mut unready = pod("b-unready", Some("set"));
        unready.ready_since = None;
        let plan = planned(&set(1), &[pod("c-ready", Some("set")), unready, pending]);
        assert_eq!(plan.delete, ["a-pending", "b-unready"]);
    }

    #[test]
    fn ended_and_deleted_pods_are_replaced() {
        let (mut ended, mut deleted) = (pod("ended", Some("set")), pod("deleted", Some("set")));
        ended.phase = Phase::Failed;
        deleted.deleting = true;
        let plan = planned(&set(1), &[ended, deleted]);
        assert_eq!((plan.create, plan.status.terminating_replicas), (1, Some(1)));
    }

    #[test]
    fn availability_comes_with_time() {
        let mut set = set(1);
        set.spec.as_mut().expect("a spec").min_ready_seconds = Some(10);
        let plan = planned(&set, &[pod("mine", Some("set"))]);
        assert_eq!(plan.status.available_replicas, None);
        assert_eq!(plan.recheck, Some(SignedDuration::from_secs(10)));
    }

    #[test]
    fn a_pod_that_some_node_does_not_know_is_not_available() {
        let (set, selector) = (set(2), LabelSelector::from_typed(None).expect("valid"));
        let selector =
            set.spec.as_ref().map_or(selector, |spec| LabelSelector::from_typed(Some(&spec.selector)).expect("valid"));
        let (old, new) = (pod("old", Some("set")), pod("new", Some("set")));
        let unknown = |pod: &PodFacts| (pod.key.name == "new").then(|| SignedDuration::from_secs(2));
        let plan = plan(&set, &selector, &[&old, &new], &unknown, Timestamp::UNIX_EPOCH);
        assert_eq!((plan.status.ready_replicas, plan.status.available_replicas), (Some(2), Some(1)));
        assert_eq!(plan.recheck, Some(SignedDuration::from_secs(2)));
    }

    #[test]
    fn a_failure_is_recorded_once_and_cleared() {
        let mut status = ReplicaSetStatus::default();
        record_failure(&mut status, Some(("FailedCreate", "no".into())), Timestamp::UNIX_EPOCH);
        record_failure(&mut status, Some(("FailedCreate", "still no".into())), Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions.as_ref().map(Vec::len), Some(1));
        record_failure(&mut status, None, Timestamp::UNIX_EPOCH);
        assert_eq!(status.conditions, None);
    }
}
