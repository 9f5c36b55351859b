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

/// The pod's name does not fit the kernel's `utsname`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({LONGEST_NODENAME} characters \
     is the max, {} characters requested)",
    name.len()
)]
pub struct NameTooLong {
    pub name: String,
}

const LONGEST_NODENAME: usize = 64;

/// What `hostname` prints inside the pod: its host name, qualified where `setHostnameAsFQDN` asks for it.
pub fn nodename(pod: &Pod, cluster_domain: &str) -> Result<String, NameTooLong> {
    let qualified = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    match hostname(pod, cluster_domain) {
        (hostname, Some(domain)) if qualified => {
            let name = format!("{hostname}.{domain}");
            if name.len() > LONGEST_NODENAME { Err(NameTooLong { name }) } else { Ok(name) }
        }
        (hostname, _) => Ok(hostname),
    }
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
    fn the_name_is_qualified_where_asked_and_where_there_is_a_domain() {
        let name = |spec: serde_json::Value| nodename(&pod(spec), "cluster.local");
        let spec = |subdomain: &str| json!({"containers": [], "subdomain": subdomain, "setHostnameAsFQDN": true});
        assert_eq!(name(spec("stores")), Ok("web-0.stores.shop.svc.cluster.local".into()));
        assert_eq!(name(json!({"containers": [], "setHostnameAsFQDN": true})), Ok("web-0".into()));
        assert_eq!(name(json!({"containers": [], "subdomain": "stores"})), Ok("web-0".into()));
        let long = name(spec(&"s".repeat(40))).unwrap_err();
        let want = format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN web-0.{}.shop.svc.cluster.local is too long \
             (64 characters is the max, 69 characters requested)",
            "s".repeat(40)
        );
        assert_eq!(long.to_string(), want);
    }

    #[test]
    fn long_names_are_cut_at_a_letter() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(20));
        assert_eq!(truncate(&name), "a".repeat(62));
    }
}
