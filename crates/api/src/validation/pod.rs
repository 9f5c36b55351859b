//! Pods as they are created.

use base_meta::field::{Error, Path};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{Errors, pod_spec, said};

pub fn pod(pod: &Pod) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    pod_spec::pod_spec(spec, &path, &mut errors);
    if spec.host_network == Some(true) {
        for (index, container) in spec.containers.iter().enumerate() {
            for (port_index, port) in container.ports.iter().flatten().enumerate() {
                if port.host_port.unwrap_or(0) == 0 {
                    errors.push(Error::invalid(
                        &path.child("containers").index(index).child("ports").index(port_index).child("hostPort"),
                        0,
                        "must match `containerPort` when `hostNetwork` is true",
                    ));
                }
            }
        }
    }
    errors
}

/// Creation only: what later comes through subresources.
pub fn pod_create(new: &Pod) -> Errors {
    let mut errors = pod(new);
    let path = Path::new("spec");
    let Some(spec) = &new.spec else { return errors };
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        errors.push(Error::forbidden(&path.child("ephemeralContainers"), "cannot be set on create"));
    }
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    if gated && !said(&spec.node_name).is_empty() {
        errors.push(Error::forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn good() -> Value {
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {
            "containers": [{"name": "my-nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]}})
    }

    fn problems(changes: &[(&str, Value)]) -> Vec<String> {
        let mut pod: Pod = object(with(&good(), changes));
        crate::defaults::pod(&mut pod);
        printed(pod_create(&pod))
    }

    #[test]
    fn the_tutorials_pod_is_valid() {
        assert_eq!(problems(&[]), Vec::<String>::new());
    }

    #[test]
    fn each_rule_names_its_field() {
        let container = "/spec/containers/0";
        let at = |field: &str| format!("{container}/{field}");
        let table: Vec<(String, Value, &str)> = vec![
            ("/spec/containers".into(), json!([]), "spec.containers: Required value"),
            (at("name"), json!(""), "spec.containers[0].name: Required value"),
            (
                at("name"),
                json!("My_Nginx"),
                "spec.containers[0].name: Invalid value: \"My_Nginx\": a lowercase RFC 1123 label must",
            ),
            (at("image"), json!(""), "spec.containers[0].image: Required value"),
            (
                at("image"),
                json!(" nginx"),
                "spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace",
            ),
            (
                at("imagePullPolicy"),
                json!("Sometimes"),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (at("ports"), json!([{"containerPort": 0}]), "spec.containers[0].ports[0].containerPort: Required value"),
            (
                at("ports"),
                json!([{"containerPort": 70000}]),
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                at("ports"),
                json!([{"containerPort": 80, "protocol": "HTTP"}]),
                "spec.containers[0].ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                at("ports"),
                json!([{"containerPort": 80, "name": "a"}, {"containerPort": 81, "name": "a"}]),
                "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            ),
            (
                at("ports"),
                json!([{"containerPort": 80, "hostPort": 1}, {"containerPort": 81, "hostPort": 1}]),
                "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//1\"",
            ),
            (at("env"), json!([{"name": ""}]), "spec.containers[0].env[0].name: Required value"),
            (
                at("env"),
                json!([{"name": "a=b"}]),
                "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {}}]),
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of",
            ),
            (
                at("env"),
                json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.bogus"}}}]),
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.bogus\"",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": ""}}}]),
                "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "no", "path": "a", "key": "K"}}}]),
                "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"no\"",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "a", "key": ""}}}]),
                "spec.containers[0].env[0].valueFrom.fileKeyRef.key: Required value",
            ),
            (
                at("env"),
                json!([{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "../a", "key": "K"}}}]),
                "spec.containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"../a\": must not contain",
            ),
            (
                at("envFrom"),
                json!([{}]),
                "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
            (
                at("volumeMounts"),
                json!([{"name": "v", "mountPath": "/x"}]),
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ),
            (
                at("resources"),
                json!({"limits": {"cpu": "100m"}, "requests": {"cpu": "200m"}}),
                "spec.containers[0].resources.requests: Invalid value: \"200m\": must be less than or equal to cpu limit of 100m",
            ),
            (
                at("resources"),
                json!({"limits": {"cpu": "-1"}}),
                "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                at("resources"),
                json!({"limits": {"bananas": "1"}}),
                "spec.containers[0].resources.limits[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
            ),
            (
                at("livenessProbe"),
                json!({}),
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            ),
            (
                at("livenessProbe"),
                json!({"tcpSocket": {"port": 0}}),
                "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                at("livenessProbe"),
                json!({"tcpSocket": {"port": 1}, "successThreshold": 2}),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                at("readinessProbe"),
                json!({"exec": {"command": []}}),
                "spec.containers[0].readinessProbe.exec.command: Required value",
            ),
            (
                at("readinessProbe"),
                json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
                "spec.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ),
            (
                at("readinessProbe"),
                json!({"exec": {"command": ["x"]}, "periodSeconds": -1}),
                "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                at("securityContext"),
                json!({"privileged": true, "allowPrivilegeEscalation": false}),
                "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set",
            ),
            (
                "/spec/initContainers".into(),
                json!([{"name": "my-nginx", "image": "a"}]),
                "spec.initContainers[0].name: Duplicate value: \"my-nginx\"",
            ),
            (
                "/spec/initContainers".into(),
                json!([{"name": "i", "image": "a", "livenessProbe": {"exec": {"command": ["x"]}}}]),
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ),
            (
                "/spec/restartPolicy".into(),
                json!("Maybe"),
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                "/spec/dnsPolicy".into(),
                json!("None"),
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                "/spec".into(),
                json!({"hostUsers": false, "hostPID": true, "containers": [{"name": "a", "image": "a"}]}),
                "spec.hostPID: Forbidden: when `hostUsers` is false",
            ),
            (
                "/spec".into(),
                json!({"hostUsers": false, "hostNetwork": true, "containers": [{"name": "a", "image": "a"}]}),
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
            ),
            (
                "/spec".into(),
                json!({"hostUsers": false, "hostIPC": true, "containers": [{"name": "a", "image": "a"}]}),
                "spec.hostIPC: Forbidden: when `hostUsers` is false",
            ),
            (
                "/spec/activeDeadlineSeconds".into(),
                json!(0),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (
                "/spec/terminationGracePeriodSeconds".into(),
                json!(-1),
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ),
            ("/spec/nodeSelector".into(), json!({"a b": "c"}), "spec.nodeSelector: Invalid value: \"a b\""),
            ("/spec/hostname".into(), json!("a.b"), "spec.hostname: Invalid value: \"a.b\""),
            (
                "/spec/tolerations".into(),
                json!([{"operator": "Equal"}]),
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty",
            ),
            (
                "/spec/volumes".into(),
                json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            ),
            (
                "/spec/volumes".into(),
                json!([{"name": "v", "secret": {}}]),
                "spec.volumes[0].secret.secretName: Required value",
            ),
            (
                "/spec/ephemeralContainers".into(),
                json!([{"name": "e"}]),
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ),
        ];
        for (pointer, value, expected) in table {
            let found = problems(&[(&pointer, value.clone())]);
            assert!(found.first().is_some_and(|first| first.starts_with(expected)), "{pointer} = {value}: {found:?}");
        }
    }
}
