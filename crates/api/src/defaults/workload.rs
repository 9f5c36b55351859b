//! Deployments and ReplicaSets.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{pod_template, pointer, text};

pub fn deployment(deployment: &mut Deployment) {
    let spec = deployment.spec.get_or_insert_default();
    pointer(&mut spec.replicas, 1);
    pointer(&mut spec.revision_history_limit, 10);
    pointer(&mut spec.progress_deadline_seconds, 600);
    let strategy = spec.strategy.get_or_insert_default();
    text(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_with(RollingUpdateDeployment::default);
        let quarter = || IntOrString::String("25%".to_owned());
        pointer(&mut rolling.max_unavailable, quarter());
        pointer(&mut rolling.max_surge, quarter());
    }
    pod_template(&mut spec.template);
}

pub fn replica_set(replica_set: &mut ReplicaSet) {
    let spec = replica_set.spec.get_or_insert_default();
    pointer(&mut spec.replicas, 1);
    pod_template(spec.template.get_or_insert_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deployment_rolls_by_a_quarter() {
        let mut object: Deployment =
            serde_json::from_value(json!({"spec": {"selector": {}, "template": {"spec": {"containers": []}}}}))
                .expect("a deployment");
        deployment(&mut object);
        let spec = serde_json::to_value(&object).expect("JSON")["spec"].clone();
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    }

    #[test]
    fn a_missing_spec_is_an_empty_one() {
        let mut object = Deployment::default();
        deployment(&mut object);
        let spec = serde_json::to_value(&object).expect("JSON")["spec"].clone();
        assert_eq!((&spec["replicas"], &spec["template"]["spec"]["dnsPolicy"]), (&json!(1), &json!("ClusterFirst")));
    }

    #[test]
    fn recreate_has_no_parameters_and_zero_replicas_stay() {
        let mut object: Deployment = serde_json::from_value(
            json!({"spec": {"replicas": 0, "selector": {}, "strategy": {"type": "Recreate"}, "template": {}}}),
        )
        .expect("a deployment");
        deployment(&mut object);
        let spec = serde_json::to_value(&object).expect("JSON")["spec"].clone();
        assert_eq!(spec["strategy"], json!({"type": "Recreate"}));
        assert_eq!(spec["replicas"], 0);
    }
}
