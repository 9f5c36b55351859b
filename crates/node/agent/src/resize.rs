//! Containers that are to have more or less of the node than they were given: what was given, and what is left to do. Pure.
//!
//! A pod's worker runs the pod *as allocated*: the object, with what its containers were given in place of what its spec
//! asks by now. Everything else that makes containers sees that pod alone. What runs remembers what it has
//! ([`crate::state::Running::resources`]), so that the rest is a comparison.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::pod::containers::all;
use api::pod::requests::{Amounts, amounts};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, ResourceRequirements};
use serde_json::{Value, json};

use crate::seams::Resources;
use crate::state::{Failure, Instance, PodState};

/// Upstream's condition types.
pub const PENDING: &str = "PodResizePending";
pub const IN_PROGRESS: &str = "PodResizeInProgress";

/// What each container was given, by its name.
pub type Allocated = BTreeMap<String, ResourceRequirements>;

/// The node has not given yet what the spec asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub reason: Reason,
    pub message: String,
    pub generation: Option<i64>,
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Until other pods take less.
    Deferred,
    /// The node is too small.
    Infeasible,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

/// It has been given, and is on its way to what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub generation: Option<i64>,
    /// The pod's own cgroup holds the old bounds and the new ones.
    pub widened: bool,
    pub failure: Option<Failure>,
}

pub fn allocated(spec: &PodSpec) -> Allocated {
    all(spec).map(|one| (one.name.clone(), one.resources.clone().unwrap_or_default())).collect()
}

/// What an earlier agent gave, as far as its last report tells.
pub fn recalled(pod: &Pod) -> Allocated {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let known = lists.into_iter().flatten().flatten().flatten();
    known.filter_map(|status| Some((status.name.clone(), status.resources.clone()?))).collect()
}

/// Whether the last report says that a change was on its way.
pub fn was_in_progress(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == IN_PROGRESS && condition.status == "True")
}

/// The pod with what its containers were given; those not listed have what they ask.
pub fn as_allocated(pod: &Arc<Pod>, given: &Allocated) -> Arc<Pod> {
    let differs =
        |one: &Container| given.get(&one.name).is_some_and(|given| !same(one.resources.as_ref(), Some(given)));
    if !pod.spec.as_ref().is_some_and(|spec| all(spec).any(differs)) {
        return Arc::clone(pod);
    }
    let mut pod = (**pod).clone();
    let spec = pod.spec.get_or_insert_default();
    for one in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        if let Some(given) = given.get(&one.name).filter(|_| differs(one)) {
            one.resources = Some(given.clone());
        }
    }
    Arc::new(pod)
}

/// Of what can change: processor and memory.
pub fn same(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    let of = |all: Option<&ResourceRequirements>| {
        let changeable = |list| {
            let mut amounts = amounts(list);
            amounts.retain(|name, _| matches!(name.as_str(), "cpu" | "memory"));
            amounts
        };
        all.map(|all| (changeable(all.requests.as_ref()), changeable(all.limits.as_ref()))).unwrap_or_default()
    };
    of(one) == of(other)
}

/// What has to be the same for a running container to stay: a change of what its policy says it must restart for is one
/// of the container.
pub fn restarts_for(container: &Container) -> Vec<Cow<'_, str>> {
    let policies =
        container.resize_policy.iter().flatten().filter(|policy| policy.restart_policy == "RestartContainer");
    let resources = container.resources.as_ref();
    let lists = resources.map(|all| [all.requests.as_ref(), all.limits.as_ref()]).unwrap_or_default();
    let mut parts = Vec::new();
    for policy in policies {
        parts.push(Cow::from(policy.resource_name.as_str()));
        let amount = |list: Amounts| list.get(&policy.resource_name).map(ToString::to_string).unwrap_or_default();
        parts.extend(lists.iter().map(|list| Cow::from(amount(amounts(*list)))));
    }
    parts
}

/// What is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There are running containers to change, or nothing but the pod's own bounds.
    Change,
    /// Containers that must restart for it.
    Restarts,
}

pub fn left(spec: &PodSpec, state: &PodState, hash: impl Fn(&Container) -> String) -> Left {
    let mut restarts = false;
    for container in all(spec) {
        let Some(Instance::Running(running)) = state.containers.get(&container.name).map(|one| &one.instance) else {
            continue;
        };
        if same(Some(&running.resources), container.resources.as_ref()) {
            continue;
        }
        if running.spec_hash == hash(container) {
            return Left::Change;
        }
        restarts = true;
    }
    if restarts { Left::Restarts } else { Left::Change }
}

/// Bounds that hold both.
pub fn widest(one: &Resources, other: &Resources) -> Resources {
    let larger = |one: Option<i64>, other: Option<i64>| Some(one?.max(other?));
    Resources {
        cpu_shares: one.cpu_shares.max(other.cpu_shares),
        cpu_quota: larger(one.cpu_quota, other.cpu_quota),
        memory_limit: larger(one.memory_limit, other.memory_limit),
        ..other.clone()
    }
}

/// What Events show of a pod's containers.
pub fn summary(pod: &Pod) -> Value {
    let list = |containers: &[Container]| {
        let one = |container: &Container| json!({"name": container.name, "resources": container.resources});
        containers.iter().map(one).collect::<Vec<_>>()
    };
    let Some(spec) = &pod.spec else { return Value::Null };
    let mut summary = json!({"containers": list(&spec.containers), "generation": pod.metadata.generation});
    if let Some(init) = spec.init_containers.as_deref().filter(|init| !init.is_empty()) {
        summary["initContainers"] = list(init).into();
    }
    summary
}

/// As the pod's status tells it.
pub fn conditions(state: &PodState, now: Timestamp, previous: &[PodCondition]) -> Vec<PodCondition> {
    let condition = |kind: &str, reason: Option<&str>, message: Option<&str>, generation: Option<i64>| {
        let before = previous.iter().find(|before| before.type_ == kind && before.reason.as_deref() == reason);
        let since = before.and_then(|before| before.last_transition_time.clone());
        PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: reason.map(ToOwned::to_owned),
            message: message.map(ToOwned::to_owned),
            observed_generation: generation,
            last_transition_time: Some(since.unwrap_or(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now))),
            last_probe_time: None,
        }
    };
    let pending = state
        .pending
        .as_ref()
        .map(|pending| condition(PENDING, Some(pending.reason.word()), Some(&pending.message), pending.generation));
    let progress = state.progress.as_ref().map(|progress| {
        let failure = progress.failure.as_ref();
        let message = failure.map(|failure| failure.message.as_str());
        condition(IN_PROGRESS, failure.map(|failure| failure.reason), message, progress.generation)
    });
    pending.into_iter().chain(progress).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value, policy: Value) -> Arc<Pod> {
        let container = json!({"name": "a", "image": "i", "resources": resources, "resizePolicy": policy});
        Arc::new(serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).unwrap())
    }

    fn container(resources: Value, policy: Value) -> Container {
        pod(resources, policy).spec.as_ref().unwrap().containers[0].clone()
    }

    #[test]
    fn a_pod_runs_with_what_it_was_given() {
        let (small, large) = (json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}}));
        let given = allocated(pod(small.clone(), json!([])).spec.as_ref().unwrap());
        let run = as_allocated(&pod(large, json!([])), &given);
        assert_eq!(run.spec.as_ref().unwrap().containers[0].resources, Some(serde_json::from_value(small).unwrap()));
        let same = pod(json!({"requests": {"cpu": "1000m"}}), json!([]));
        assert!(Arc::ptr_eq(&as_allocated(&same, &given), &same), "the same amount, written otherwise");
    }

    #[test]
    fn only_what_a_policy_names_restarts_a_container() {
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"},
            {"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        let parts = |cpu: &str, memory: &str| {
            let resources = json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}});
            restarts_for(&container(resources, policy.clone())).join("|")
        };
        assert_eq!(parts("1", "1Gi"), parts("2", "1024Mi"));
        assert_ne!(parts("1", "1Gi"), parts("1", "2Gi"));
        assert!(restarts_for(&container(json!({"limits": {"memory": "1Gi"}}), json!([]))).is_empty());
    }

    #[test]
    fn the_widest_bounds_hold_both() {
        let of = |quota, memory| Resources { cpu_quota: quota, memory_limit: memory, ..Resources::default() };
        let wide = widest(&of(Some(1), Some(5)), &of(Some(2), Some(4)));
        assert_eq!((wide.cpu_quota, wide.memory_limit), (Some(2), Some(5)));
        assert_eq!(widest(&of(None, None), &of(Some(2), Some(4))).memory_limit, None);
    }
}
