//! Projections of the API objects: only what translation needs, a few hundred bytes instead of kilobytes.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::ObjectKey;

use crate::frontend::{Affinity, Protocol};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// A Service with this label is served by some other proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

impl TrafficPolicy {
    fn parse(name: Option<&str>) -> Self {
        if name == Some("Local") { Self::Local } else { Self::Cluster }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Without "None" and without IPv6.
    pub cluster_ips: Vec<Ipv4Addr>,
    pub ports: Vec<PortView>,
    pub internal: TrafficPolicy,
    pub external: TrafficPolicy,
    pub affinity: Option<Affinity>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Empty when the Service has one unnamed port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceView {
    pub service: ObjectKey,
    /// The object's resourceVersion.
    pub revision: u64,
    pub ports: Vec<(String, Protocol, u16)>,
    pub endpoints: Vec<EndpointView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    pub ip: Ipv4Addr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
}

impl ServiceView {
    /// `None` when there is nothing to translate: headless, an external name, or another proxy's.
    pub fn project(service: &Service) -> Option<Self> {
        if service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PROXY_NAME)) {
            return None;
        }
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let mut cluster_ips: Vec<Ipv4Addr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        cluster_ips.sort_unstable();
        cluster_ips.dedup();
        if cluster_ips.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Some(PortView {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: u16::try_from(port.port).ok()?,
                node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            })
        });
        Some(Self {
            cluster_ips,
            ports: ports.collect(),
            internal: TrafficPolicy::parse(spec.internal_traffic_policy.as_deref()),
            external: TrafficPolicy::parse(spec.external_traffic_policy.as_deref()),
            affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
                let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
                let seconds = config.and_then(|client| u32::try_from(client.timeout_seconds?).ok());
                seconds.and_then(Affinity::of_seconds).unwrap_or(Affinity::DEFAULT)
            }),
        })
    }
}

impl SliceView {
    /// `None` when the slice belongs to no Service or holds no IPv4 addresses.
    pub fn project(slice: &EndpointSlice) -> Option<Self> {
        let meta = &slice.metadata;
        let service = meta.labels.as_ref()?.get(SERVICE_NAME)?;
        if slice.address_type != "IPv4" {
            return None;
        }
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), Protocol::parse(port.protocol.as_deref())?, number))
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            // Absent means ready, as upstream reads it.
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            Some(EndpointView {
                ip: endpoint.addresses.first()?.parse().ok()?,
                ready,
                serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
                terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                node: endpoint.node_name.clone(),
            })
        });
        Some(Self {
            service: ObjectKey::new(meta.namespace.clone().unwrap_or_default(), service),
            revision: meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0),
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, json};

    fn service(spec: serde_json::Value) -> Option<ServiceView> {
        ServiceView::project(&serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap())
    }

    #[test]
    fn services_without_a_usable_address_are_left_out() {
        for spec in [
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
            json!({"type": "ExternalName", "externalName": "example.org"}),
            json!({}),
        ] {
            assert_eq!(service(spec.clone()), None, "{spec}");
        }
    }

    #[test]
    fn ports_out_of_range_are_left_out() {
        let view = service(json!({"clusterIP": "10.43.0.9", "ports": [
            {"port": 80, "protocol": "TCP"}, {"port": 70000}, {"port": 53, "protocol": "UDP", "nodePort": 30053},
            {"port": 1, "protocol": "ICMP"},
        ]}));
        let ports: Vec<_> = view.unwrap().ports.iter().map(|p| (p.protocol, p.port, p.node_port)).collect();
        assert_eq!(ports, [(Protocol::Tcp, 80, None), (Protocol::Udp, 53, Some(30053))]);
    }

    #[test]
    fn affinity_has_a_timeout() {
        let affinity = |spec: serde_json::Value| service(spec).unwrap().affinity.map(Affinity::seconds);
        assert_eq!(affinity(json!({"clusterIP": "10.43.0.9", "sessionAffinity": "None"})), None);
        assert_eq!(affinity(json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP"})), Some(10_800));
        let config = |seconds: i32| json!({"clientIP": {"timeoutSeconds": seconds}});
        for (seconds, expected) in [(30, 30), (0, 10_800), (100_000, 10_800)] {
            let spec = json!({"clusterIP": "10.43.0.9", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": config(seconds)});
            assert_eq!(affinity(spec), Some(expected));
        }
    }

    #[test]
    fn absent_conditions_mean_ready() {
        let slice = json!({
            "addressType": "IPv4",
            "metadata": {"name": "s-1", "namespace": "n", "resourceVersion": "7", "labels": {SERVICE_NAME: "s"}},
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
                          {"addresses": ["not an address"]}],
        });
        let view = SliceView::project(&serde_json::from_value(slice).unwrap()).unwrap();
        assert_eq!((view.service, view.revision), (ObjectKey::new("n", "s"), 7));
        let endpoints: Vec<_> = view.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
        assert_eq!(endpoints, [(true, true, false), (false, false, false)]);
    }
}
