//! Status details that the life of a pod (in `pods::tests`) does not show.

use serde_json::json;

use super::*;

#[test]
fn merge_patches_say_only_what_changed() {
    let old = json!({"phase": "Pending", "reason": "X", "conditions": [1, 2], "nested": {"a": 1, "b": 2}});
    let new = json!({"phase": "Running", "conditions": [1, 3], "nested": {"a": 1}, "added": true});
    let patch = json!({"phase": "Running", "reason": null, "conditions": [1, 3], "nested": {"b": null}, "added": true});
    assert_eq!(merge_patch(&old, &new), Some(patch));
    assert_eq!(merge_patch(&new, &new), None);
}

fn compute_for(pod: serde_json::Value, previous: &PodStatus, second: i64) -> PodStatus {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let now = Timestamp::from_second(second).unwrap();
    let state = PodState { started_at: Some(now), ..PodState::default() };
    compute(&pod, &state, &Context { host_ips: "192.0.2.1".parse().unwrap(), now, previous })
}

#[test]
fn a_new_pod_waits_and_keeps_its_transition_times() {
    let pod = json!({"metadata": {"generation": 3}, "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]},
        "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}});
    let first = compute_for(pod.clone(), &PodStatus::default(), 1);
    assert_eq!((first.phase.as_deref(), first.observed_generation), (Some("Pending"), Some(3)));
    let ready = first.conditions.as_ref().unwrap().iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a b]"));
    let again = compute_for(pod, &first, 2);
    assert_eq!(again, first);
}

#[test]
fn a_pod_with_init_containers_is_not_initialised() {
    let pod = json!({"metadata": {}, "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}});
    let status = compute_for(pod, &PodStatus::default(), 1);
    let initialised = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Initialized").unwrap();
    assert_eq!(initialised.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialised.message.as_deref(), Some("containers with incomplete status: [i]"));
    let reason = |statuses: Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap().reason.unwrap()
    };
    assert_eq!(reason(status.container_statuses), "PodInitializing");
}

#[test]
fn readiness_gates_hold_the_pod_back() {
    let pod = |gate: serde_json::Value| {
        json!({"metadata": {}, "spec": {"containers": [], "readinessGates": [{"conditionType": "lb"}]},
            "status": {"conditions": gate}})
    };
    let ready = |gate| {
        let status = compute_for(pod(gate), &PodStatus::default(), 1);
        status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap()
    };
    let missing = ready(json!([]));
    assert_eq!(missing.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert!(missing.message.unwrap().contains("\"lb\" does not exist"));
    assert_eq!(ready(json!([{"type": "lb", "status": "True"}])).status, "True");
}

#[test]
fn an_object_without_a_spec_keeps_its_status() {
    let previous = PodStatus { reason: Some("x".into()), ..PodStatus::default() };
    assert_eq!(compute_for(json!({"metadata": {}}), &previous, 1), previous);
}

#[test]
fn a_pod_that_ended_before_its_first_report_shows_its_address() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": []}})).unwrap();
    let state = PodState { last_ips: vec!["10.42.0.7".parse().unwrap()], ..PodState::default() };
    let (now, previous) = (Timestamp::UNIX_EPOCH, PodStatus::default());
    let status = compute(&pod, &state, &Context { host_ips: "192.0.2.1".parse().unwrap(), now, previous: &previous });
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
}
