//! StatefulSets, DaemonSets and ReplicationControllers.

use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet, StatefulSet};
use k8s_openapi::api::core::v1::{PodTemplate, ReplicationController};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{persistent_volume_claim, pod_template, pointer, text};

pub fn stateful_set(set: &mut StatefulSet) {
    let spec = set.spec.get_or_insert_default();
    text(&mut spec.pod_management_policy, "OrderedReady");
    let strategy = spec.update_strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_default();
        pointer(&mut rolling.partition, 0);
        pointer(&mut rolling.max_unavailable, IntOrString::Int(1));
    }
    let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
    text(&mut retention.when_deleted, "Retain");
    text(&mut retention.when_scaled, "Retain");
    pointer(&mut spec.replicas, 1);
    pointer(&mut spec.revision_history_limit, 10);
    pod_template(&mut spec.template);
    spec.volume_claim_templates.iter_mut().flatten().for_each(persistent_volume_claim);
}

pub fn daemon_set(set: &mut DaemonSet) {
    let spec = set.spec.get_or_insert_default();
    let strategy = spec.update_strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_with(RollingUpdateDaemonSet::default);
        pointer(&mut rolling.max_unavailable, IntOrString::Int(1));
        pointer(&mut rolling.max_surge, IntOrString::Int(0));
    }
    pointer(&mut spec.revision_history_limit, 10);
    pod_template(&mut spec.template);
}

/// The template's labels stand in for the selector and for the controller's own labels.
pub fn replication_controller(controller: &mut ReplicationController) {
    let spec = controller.spec.get_or_insert_default();
    let metadata = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    if let Some(labels) = metadata.and_then(|metadata| metadata.labels.clone()).filter(|labels| !labels.is_empty()) {
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        if controller.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
            controller.metadata.labels = Some(labels);
        }
    }
    pointer(&mut spec.replicas, 1);
    if let Some(template) = &mut spec.template {
        pod_template(template);
    }
}

pub fn stored_pod_template(object: &mut PodTemplate) {
    pod_template(object.template.get_or_insert_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stateful_set_rolls_one_by_one_and_keeps_its_claims() {
        let mut set: StatefulSet = serde_json::from_value(json!({"spec": {"selector": {}, "serviceName": "s",
            "template": {"spec": {"containers": []}}, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}}))
        .expect("a stateful set");
        stateful_set(&mut set);
        let spec = serde_json::to_value(&set).expect("JSON")["spec"].clone();
        assert_eq!((&spec["podManagementPolicy"], &spec["replicas"]), (&json!("OrderedReady"), &json!(1)));
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
        );
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(
            (&claim["spec"]["volumeMode"], &claim["status"]["phase"]),
            (&json!("Filesystem"), &json!("Pending"))
        );
    }

    #[test]
    fn a_daemon_set_replaces_one_pod_at_a_time() {
        let mut set: DaemonSet =
            serde_json::from_value(json!({"spec": {"selector": {}, "template": {}}})).expect("one");
        daemon_set(&mut set);
        let spec = serde_json::to_value(&set).expect("JSON")["spec"].clone();
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
        );
    }

    #[test]
    fn a_replication_controller_takes_its_templates_labels() {
        let mut object: ReplicationController = serde_json::from_value(
            json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}}),
        )
        .expect("a controller");
        replication_controller(&mut object);
        let value = serde_json::to_value(&object).expect("JSON");
        assert_eq!(
            (&value["metadata"]["labels"], &value["spec"]["selector"]),
            (&json!({"a": "b"}), &json!({"a": "b"}))
        );
        assert_eq!(value["spec"]["replicas"], 1);
    }
}
