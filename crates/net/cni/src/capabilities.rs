//! What plug-ins that ask for it are told of a pod, by the names of Kubernetes' customs. Pure.

use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

/// Bits per second that a limit may be, as upstream's.
const RATES: std::ops::RangeInclusive<i64> = 1_000..=1_000_000_000_000_000;

#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    #[error("annotation {annotation}: {value:?} is not a number of bits per second from 1k to 1P")]
    Bandwidth { annotation: &'static str, value: String },
}

/// What the pod's resolver asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// All of them; each plug-in is told those that it names.
pub(crate) fn of(pod: &Pod, dns: &Dns) -> Result<Map<String, Value>, CapabilityError> {
    let mut all = Map::new();
    let ports = ports(pod);
    if !ports.is_empty() {
        all.insert("portMappings".into(), ports.into());
    }
    if let Some(bandwidth) = bandwidth(pod)? {
        all.insert("bandwidth".into(), bandwidth);
    }
    let Dns { servers, searches, options } = dns;
    if !(servers.is_empty() && searches.is_empty() && options.is_empty()) {
        all.insert("dns".into(), json!({ "servers": servers, "searches": searches, "options": options }));
    }
    if let Some(annotations) = &pod.metadata.annotations {
        all.insert("io.kubernetes.cri.pod-annotations".into(), json!(annotations));
    }
    Ok(all)
}

fn ports(pod: &Pod) -> Vec<Value> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let number = port.host_port.filter(|number| *number != 0)?;
        Some(json!({
            "hostPort": number,
            "containerPort": port.container_port,
            "protocol": port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
            "hostIP": port.host_ip.as_deref().unwrap_or_default(),
        }))
    };
    ports.filter_map(mapping).collect()
}

/// Towards the pod and from it.
fn bandwidth(pod: &Pod) -> Result<Option<Value>, CapabilityError> {
    const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
    const EGRESS: &str = "kubernetes.io/egress-bandwidth";
    let rate = |annotation: &'static str| {
        let value = pod.metadata.annotations.as_ref().and_then(|all| all.get(annotation));
        value.map_or(Ok(None), |value| {
            let rate = Quantity::parse(value).ok().map(Quantity::value).filter(|rate| RATES.contains(rate));
            rate.map(Some).ok_or_else(|| CapabilityError::Bandwidth { annotation, value: value.clone() })
        })
    };
    let mut limits = Map::new();
    // A burst as large as can be said: the rate alone is limited.
    for (annotation, direction) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
        if let Some(rate) = rate(annotation)? {
            limits.insert(format!("{direction}Rate"), rate.into());
            limits.insert(format!("{direction}Burst"), u32::MAX.into());
        }
    }
    Ok((!limits.is_empty()).then(|| limits.into()))
}
