//! How many of a budget's pods may go: pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::fraction;
use crate::world::PodFacts;

/// How long a pod whose eviction was granted counts as going, without being deleted.
const DELETION: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget is a part of what the pods' controllers want, so that these must be asked.
pub fn asks_controllers(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// The status, and when to look again. `scale` is what the pods' controllers want together, where that is asked for.
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[&PodFacts],
    scale: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<SignedDuration>) {
    let spec = budget.spec.clone().unwrap_or_default();
    let old = budget.status.clone().unwrap_or_default();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - fraction::scaled(most, scale, fraction::Round::Up)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count(pods.len()), *least),
        (None, Some(least)) => (scale, fraction::scaled(least, scale, fraction::Round::Up)),
        (None, None) => (0, 0),
    };
    let mut going = BTreeMap::new();
    let mut again: Option<SignedDuration> = None;
    for pod in pods.iter().filter(|pod| !pod.deleting) {
        let granted = old.disrupted_pods.as_ref().and_then(|granted| granted.get(&pod.key.name));
        if let Some(granted) = granted {
            let left = DELETION - now.duration_since(granted.0);
            if left.is_positive() {
                going.insert(pod.key.name.clone(), granted.clone());
                again = again.into_iter().chain([left]).min();
            }
        }
    }
    let healthy = pods.iter().filter(|pod| !pod.deleting && pod.ready() && !going.contains_key(&pod.key.name)).count();
    let healthy = count(healthy);
    // Without expected pods nothing is allowed: the first ones may not be counted yet.
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let (verdict, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!going.is_empty()).then_some(going),
        observed_generation: generation,
        conditions: Some(with_condition(&old, verdict, reason, String::new(), generation, now)),
    };
    (status, again)
}

/// Nobody knows how many may go: then none may.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let generation = old.observed_generation;
    let conditions = with_condition(&old, "False", "SyncFailed", why.to_owned(), generation, now);
    PodDisruptionBudgetStatus { disruptions_allowed: Some(0), conditions: Some(conditions), ..old }
}

fn with_condition(
    old: &PodDisruptionBudgetStatus,
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = old.conditions.clone().unwrap_or_default();
    let before = conditions.iter().position(|one| one.type_ == ALLOWED);
    let since = before.map(|at| conditions.remove(at)).filter(|one| one.status == status);
    let condition = Condition {
        type_: ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: since.map_or(Time(now), |one| one.last_transition_time),
    };
    conditions.insert(before.unwrap_or(conditions.len()), condition);
    conditions
}

#[cfg(test)]
mod tests {
    use machinery_client::ObjectKey;
    use serde_json::{Value, json};

    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let budget = json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status});
        serde_json::from_value(budget).expect("a budget")
    }

    /// The first `ready` of them ready.
    fn pods(ready: usize, all: usize) -> Vec<PodFacts> {
        let pod = |n: usize| PodFacts {
            key: ObjectKey::new("default", format!("p{n}")),
            ready_since: (n < ready).then_some(Timestamp::UNIX_EPOCH),
            ..PodFacts::default()
        };
        (0..all).map(pod).collect()
    }

    /// currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed.
    fn numbers(spec: Value, pods: &[PodFacts], scale: i32) -> (i32, i32, i32, i32) {
        let pods: Vec<&PodFacts> = pods.iter().collect();
        let (status, _) = status(&budget(spec, Value::Null), &pods, scale, Timestamp::UNIX_EPOCH);
        let numbers =
            [status.current_healthy, status.desired_healthy, status.expected_pods, status.disruptions_allowed];
        let [current, desired, expected, allowed] = numbers.map(|number| number.expect("always said"));
        (current, desired, expected, allowed)
    }

    #[test]
    fn numbers_and_parts_of_what_is_wanted() {
        assert_eq!(numbers(json!({"minAvailable": 2}), &pods(3, 4), 0), (3, 2, 4, 1));
        assert_eq!(numbers(json!({"minAvailable": "50%"}), &pods(3, 3), 5), (3, 3, 5, 0), "rounded up");
        assert_eq!(numbers(json!({"maxUnavailable": 1}), &pods(3, 3), 3), (3, 2, 3, 1));
        assert_eq!(numbers(json!({"maxUnavailable": "30%"}), &pods(3, 3), 3), (3, 2, 3, 1));
        assert_eq!(numbers(json!({"maxUnavailable": 9}), &pods(1, 3), 3), (1, 0, 3, 1));
        assert_eq!(numbers(json!({"minAvailable": 0}), &[], 0), (0, 0, 0, 0));
    }

    #[test]
    fn a_pod_whose_eviction_was_granted_is_going_for_two_minutes() {
        let now = Timestamp::from_second(1000).expect("a time");
        let granted = json!({"disruptedPods": {"p0": "1970-01-01T00:15:40Z", "p1": "1970-01-01T00:14:00Z",
                                               "gone": "1970-01-01T00:16:40Z"},
                             "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0});
        let (pods, budget) = (pods(3, 3), budget(json!({"minAvailable": 1}), granted));
        let (status, again) = status(&budget, &pods.iter().collect::<Vec<_>>(), 0, now);
        assert_eq!(status.disrupted_pods.expect("one").into_keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(2), Some(1)));
        assert_eq!(again, Some(SignedDuration::from_secs(60)));
    }

    #[test]
    fn the_condition_says_so_and_keeps_its_time() {
        let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).expect("a time"));
        let mut budget = budget(json!({"minAvailable": 1}), Value::Null);
        let pods = pods(2, 2);
        let pods: Vec<&PodFacts> = pods.iter().collect();
        budget.status = Some(status(&budget, &pods, 0, first).0);
        assert_eq!(budget.status, Some(status(&budget, &pods, 0, later).0), "nothing changed");
        let failed = failed(&budget, "found no controllers for pod \"p\"", later);
        let condition = &failed.conditions.as_ref().expect("one")[0];
        assert_eq!((failed.disruptions_allowed, condition.reason.as_str()), (Some(0), "SyncFailed"));
        assert_eq!(condition.last_transition_time, Time(later));
    }
}
