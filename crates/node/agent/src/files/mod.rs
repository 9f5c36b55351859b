//! Files that the agent writes into every container of a pod: /etc/hosts and /etc/resolv.conf. Rendering is pure.

mod hosts;
mod resolv;

pub use hosts::hosts;
pub use resolv::{HostResolver, resolv_conf};

use k8s_openapi::api::core::v1::Pod;

/// The host name inside the pod, and the domain it is qualified with, if any.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    let named = |value: Option<&String>| value.filter(|value| !value.is_empty()).cloned();
    if let Some(name) = named(spec.and_then(|spec| spec.hostname_override.as_ref())) {
        return (name, None);
    }
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let hostname = named(spec.and_then(|spec| spec.hostname.as_ref())).unwrap_or_else(|| truncate(&pod_name));
    let domain = named(spec.and_then(|spec| spec.subdomain.as_ref())).map(|subdomain| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        format!("{subdomain}.{namespace}.svc.{cluster_domain}")
    });
    (hostname, domain)
}

/// Host names have at most 63 characters and end in a letter or digit.
fn truncate(name: &str) -> String {
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "web-0", "namespace": "shop"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn the_pod_name_is_the_host_name_unless_the_spec_says_otherwise() {
        assert_eq!(hostname(&pod(json!({"containers": []})), "cluster.local"), ("web-0".into(), None));
        let spec = json!({"containers": [], "hostname": "db", "subdomain": "stores"});
        let domain = Some("stores.shop.svc.cluster.local".into());
        assert_eq!(hostname(&pod(spec), "cluster.local"), ("db".into(), domain));
    }

    #[test]
    fn long_names_are_cut_at_a_letter() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(20));
        assert_eq!(truncate(&name), "a".repeat(62));
    }
}
