//! Pods, and the templates that workloads make them from.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodTemplateSpec};

use super::{container, number, pointer, text, volume};

/// A pod itself gets more than a template does: requests from limits, service links, host ports.
pub fn pod(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    for container in all_containers(spec) {
        container::requests_from_limits(container);
    }
    pointer(&mut spec.enable_service_links, true);
    if spec.host_network == Some(true) {
        for port in all_containers(spec).flat_map(|container| container.ports.iter_mut().flatten()) {
            let number_of_container = port.container_port;
            number(&mut port.host_port, number_of_container);
        }
    }
    pod_spec(spec);
    if let Some(status) = &mut pod.status {
        text(&mut status.phase, "Pending");
    }
}

pub fn pod_template(template: &mut PodTemplateSpec) {
    pod_spec(template.spec.get_or_insert_default());
}

fn pod_spec(spec: &mut PodSpec) {
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.scheduler_name, "default-scheduler");
    pointer(&mut spec.termination_grace_period_seconds, 30);
    pointer(&mut spec.security_context, Default::default());
    mirror_service_account(spec);
    spec.volumes.iter_mut().flatten().for_each(volume::volume);
    all_containers(spec).for_each(container::container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(container::ephemeral);
}

/// The deprecated `serviceAccount` always reads as `serviceAccountName`, and stands in where that is empty.
pub fn mirror_service_account(spec: &mut PodSpec) {
    let named = |slot: &Option<String>| slot.clone().filter(|name| !name.is_empty());
    let name = named(&spec.service_account_name).or_else(|| named(&spec.service_account));
    spec.service_account_name.clone_from(&name);
    spec.service_account = name;
}

fn all_containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn defaulted(spec: Value) -> Value {
        let mut object: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        pod(&mut object);
        let once = serde_json::to_value(&object).expect("JSON");
        pod(&mut object);
        assert_eq!(serde_json::to_value(&object).expect("JSON"), once, "defaulting is idempotent");
        once["spec"].clone()
    }

    #[test]
    fn the_tutorials_pod_gets_what_upstream_fills_in() {
        let spec =
            defaulted(json!({"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}]}]}));
        assert_eq!(
            spec,
            json!({
                "containers": [{
                    "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
                "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
            })
        );
    }

    #[test]
    fn zero_values_of_go_fields_are_unset_and_pointers_are_kept() {
        let spec = defaulted(json!({
            "restartPolicy": "", "terminationGracePeriodSeconds": 0, "enableServiceLinks": false,
            "containers": [{"name": "c", "image": "a:1", "readinessProbe": {"timeoutSeconds": 0, "httpGet": {"port": 80}}}],
        }));
        assert_eq!(spec["restartPolicy"], "Always");
        assert_eq!(spec["terminationGracePeriodSeconds"], 0);
        assert_eq!(spec["enableServiceLinks"], false);
        assert_eq!(
            spec["containers"][0]["readinessProbe"],
            json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3})
        );
    }

    #[test]
    fn requests_follow_limits_in_pods_only() {
        let containers = json!([{"name": "c", "image": "a:1", "resources": {
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}}]);
        let spec = defaulted(json!({"containers": containers}));
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "100m", "memory": "1Gi"}));
        let mut template: PodTemplateSpec =
            serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a template");
        pod_template(&mut template);
        let spec = serde_json::to_value(&template).expect("JSON")["spec"].clone();
        assert_eq!(spec["containers"][0]["resources"]["requests"], json!({"cpu": "100m"}));
        assert_eq!(spec["enableServiceLinks"], Value::Null);
    }

    #[test]
    fn host_network_ports_and_volumes() {
        let spec = defaulted(json!({
            "hostNetwork": true, "serviceAccount": "old",
            "volumes": [{"name": "scratch"}, {"name": "s", "secret": {"secretName": "x"}}],
            "containers": [{"name": "c", "image": "a:1", "ports": [{"containerPort": 80}]}],
        }));
        assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
        assert_eq!(spec["volumes"][0], json!({"name": "scratch", "emptyDir": {}}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
        assert_eq!(spec["serviceAccountName"], "old");
    }
}
