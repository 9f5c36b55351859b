//! The `Endpoints` object of a Service: the older form, which old clients and `kubectl get ep` read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::backends::{Backend, Family, ResolvedPort};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Set when the object had to be cut at [`CAPACITY`] addresses.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const CAPACITY: usize = 1000;

/// What the Endpoints object should be, given the present one. `None` when it is so already.
pub fn plan(
    service: &Service,
    family: Family,
    backends: &[Backend],
    existing: Option<&Endpoints>,
) -> Option<Endpoints> {
    let mut by_ports: BTreeMap<&[ResolvedPort], (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    // A pod that is being deleted has left, ready or not.
    let staying: Vec<&Backend> = backends.iter().filter(|backend| !backend.pod.deleting || publish).collect();
    for backend in staying.iter().take(CAPACITY) {
        let Some(ip) = backend.pod.ips.iter().find(|ip| family.contains(ip)) else { continue };
        let entry = by_ports.entry(&backend.ports).or_default();
        let side = if backend.pod.ready() || publish { &mut entry.0 } else { &mut entry.1 };
        side.push(address(service, backend, ip));
    }
    let subsets: Vec<EndpointSubset> = by_ports
        .into_iter()
        .map(|(ports, (mut ready, mut not_ready))| {
            ready.sort_by(by_ip);
            not_ready.sort_by(by_ip);
            EndpointSubset {
                addresses: (!ready.is_empty()).then_some(ready),
                not_ready_addresses: (!not_ready.is_empty()).then_some(not_ready),
                ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
            }
        })
        .collect();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels);
    let mut annotations = wanted.metadata.annotations.take().unwrap_or_default();
    if staying.len() > CAPACITY {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    wanted.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    (existing != Some(&wanted)).then_some(wanted)
}

/// Whether this controller made it.
pub fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().is_some_and(|labels| labels.get(MANAGED_BY).is_some_and(|by| by == CONTROLLER))
}

fn by_ip(one: &EndpointAddress, two: &EndpointAddress) -> std::cmp::Ordering {
    one.ip.cmp(&two.ip)
}

fn address(service: &Service, backend: &Backend, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: backend.hostname(service),
        node_name: backend.pod.node.clone(),
        target_ref: Some(backend.target()),
    }
}

fn port(port: &ResolvedPort) -> EndpointPort {
    EndpointPort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}
