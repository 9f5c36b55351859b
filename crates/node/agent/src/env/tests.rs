//! Environments as containers get them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", "labels": {"app": "web"}, "annotations": {"a/b": "c"}},
        "spec": {"serviceAccountName": "sa", "containers": [
            {"name": "other", "resources": {"limits": {"memory": "64Mi"}}}]},
    }))
    .unwrap()
}

fn service(namespace: &str, name: &str) -> ServiceLinks {
    let service = json!({"metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]}});
    ServiceLinks::of(serde_json::from_value(service).unwrap()).unwrap()
}

fn sources() -> Sources {
    let data = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
    };
    Sources {
        config_maps: BTreeMap::from([("settings".into(), data(&[("a", "1"), ("b", "2")])), ("gone".into(), None)]),
        secrets: BTreeMap::from([("keys".into(), data(&[("k", "s3cret")]))]),
        files: BTreeMap::from([
            (("work".into(), "app.env".into()), Ok("HOST='db'\nEMPTY=''\nbroken".into())),
            (("work".into(), "none.env".into()), Err(EnvError::File)),
        ]),
    }
}

fn run(container: Value) -> Result<Vec<String>, EnvError> {
    let pod = pod();
    let mut container = container;
    container["name"] = "app".into();
    let container: Container = serde_json::from_value(container).unwrap();
    let services = [service("shop", "my-nginx"), service("default", "kubernetes")];
    let ips = ["10.42.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    let hosts = ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let view = PodView {
        pod: &pod,
        node_name: "node",
        host_ips: &hosts,
        pod_ips: &ips,
        services: &services,
        allocatable: (2500, 1 << 30),
    };
    let all = environment(&container, &["PATH=/bin".into(), "A=image".into()], &view, &sources())?;
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn value(variable: Value) -> Result<String, EnvError> {
    let mut variable = variable;
    variable["name"] = "X".into();
    let all = run(json!({"env": [variable]}))?;
    Ok(all.into_iter().find_map(|entry| entry.strip_prefix("X=").map(Into::into)).unwrap_or_else(|| "(none)".into()))
}

#[test]
fn later_sources_win_and_expansion_sees_what_came_before() {
    let all = run(json!({
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "secretRef": {"name": "keys"}}],
        "env": [{"name": "A", "value": "own"}, {"name": "B", "value": "$(A)-$(b)-$(MY_NGINX_SERVICE_HOST)-$(LATER)"},
                {"name": "LATER", "value": "x"}],
    }))
    .unwrap();
    for wanted in
        ["PATH=/bin", "A=own", "a=1", "P_k=s3cret", "B=own-2-10.43.0.7-$(LATER)", "KUBERNETES_SERVICE_PORT=80"]
    {
        assert!(all.iter().any(|entry| entry == wanted), "{wanted} in {all:#?}");
    }
    assert_eq!(all.iter().filter(|entry| entry.starts_with("A=")).count(), 1);
}

#[test]
fn fields_of_the_pod() {
    for (path, want) in [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a/b']", "c"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "192.0.2.1"),
        ("status.podIP", "10.42.0.7"),
        ("status.podIPs", "10.42.0.7,fd00::7"),
    ] {
        assert_eq!(value(json!({"valueFrom": {"fieldRef": {"fieldPath": path}}})).as_deref(), Ok(want), "{path}");
    }
    for path in ["spec.replicas", "metadata.labels", "metadata.labels[app]", ""] {
        let result = value(json!({"valueFrom": {"fieldRef": {"fieldPath": path}}}));
        assert_eq!(result, Err(EnvError::FieldPath(path.into())));
    }
}

#[test]
fn resources_of_containers() {
    let resource = |from: Value| {
        let limits = json!({"cpu": "1500m", "memory": "100Mi"});
        let container = json!({"resources": {"limits": limits},
            "env": [{"name": "X", "valueFrom": {"resourceFieldRef": from}}]});
        run(container).map(|all| all.into_iter().find_map(|entry| entry.strip_prefix("X=").map(str::to_owned)).unwrap())
    };
    assert_eq!(resource(json!({"resource": "limits.cpu"})).unwrap(), "2");
    assert_eq!(resource(json!({"resource": "limits.cpu", "divisor": "1m"})).unwrap(), "1500");
    assert_eq!(resource(json!({"resource": "limits.memory", "divisor": "1Mi"})).unwrap(), "100");
    assert_eq!(resource(json!({"resource": "requests.memory"})).unwrap(), "0");
    assert_eq!(resource(json!({"containerName": "other", "resource": "limits.memory"})).unwrap(), "67108864");
    assert_eq!(resource(json!({"containerName": "other", "resource": "limits.cpu", "divisor": "1m"})).unwrap(), "2500");
    assert_eq!(resource(json!({"resource": "limits.gold"})), Err(EnvError::Resource("limits.gold".into())));
    assert_eq!(resource(json!({"resource": "cpu"})), Err(EnvError::Resource("cpu".into())));
    assert_eq!(
        resource(json!({"containerName": "no", "resource": "limits.cpu"})),
        Err(EnvError::Container("no".into()))
    );
}

#[test]
fn missing_sources_say_which_and_optional_ones_are_left_out() {
    let map = |name: &str, key: &str, optional: bool| {
        value(json!({"valueFrom": {"configMapKeyRef": {"name": name, "key": key, "optional": optional}}}))
    };
    assert_eq!(map("settings", "a", false).unwrap(), "1");
    assert_eq!(map("gone", "a", false).unwrap_err().to_string(), "configmap \"gone\" not found");
    assert_eq!(map("settings", "z", false).unwrap_err().to_string(), "couldn't find key z in ConfigMap shop/settings");
    assert_eq!(map("gone", "a", true).unwrap(), "(none)");
    assert_eq!(map("settings", "z", true).unwrap(), "(none)");
    let secret = value(json!({"valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}));
    assert_eq!(secret.unwrap_err().to_string(), "secret \"no\" not found");
    let file = |volume: &str, path: &str, key: &str, optional: bool| {
        let reference = json!({"volumeName": volume, "path": path, "key": key, "optional": optional});
        value(json!({"valueFrom": {"fileKeyRef": reference}})).map_err(|error| error.to_string())
    };
    assert_eq!(file("work", "app.env", "HOST", false).as_deref(), Ok("db"));
    let absent = "environment variable key \"EMPTY\" not found in file \"app.env\"";
    assert_eq!(file("work", "app.env", "EMPTY", false).unwrap_err(), absent);
    assert_eq!(file("work", "app.env", "EMPTY", true).as_deref(), Ok("(none)"));
    assert_eq!(file("work", "app.env", "ANY", true).unwrap_err(), "couldn't parse env file");
    assert_eq!(file("work", "none.env", "HOST", true).unwrap_err(), "couldn't parse env file");
    assert_eq!(file("no", "x", "y", true).unwrap_err(), "cannot find the volume \"no\" referenced by FileKeyRef");
    let from = run(json!({"envFrom": [{"configMapRef": {"name": "gone"}}]}));
    assert_eq!(from.unwrap_err().to_string(), "configmap \"gone\" not found");
    assert!(run(json!({"envFrom": [{"configMapRef": {"name": "gone", "optional": true}}]})).is_ok());
}

#[test]
fn a_pod_may_do_without_links_but_not_without_the_api_server() {
    let names: Vec<_> = services::variables(&[service("shop", "a"), service("default", "kubernetes")], false)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.iter().all(|name| name.starts_with("KUBERNETES_")), "{names:?}");
    assert!(!names.is_empty());
}
