//! Projections of Services: only what translation needs, a few hundred bytes instead of kilobytes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base_sys::route::IpCidr;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::jiff::Timestamp;

use crate::frontend::{Affinity, Family, Protocol};

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
    pub created: Option<Timestamp>,
    /// Without "None".
    pub cluster_ips: Vec<IpAddr>,
    /// Those that bring packets to the node unchanged.
    pub balancer_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    pub ports: Vec<PortView>,
    pub internal: TrafficPolicy,
    pub external: TrafficPolicy,
    pub affinity: Option<Affinity>,
    /// Who may come to the balancer's addresses; of a family that none is of, everybody.
    pub sources: Vec<IpCidr>,
    /// Where load balancers ask whether this node has endpoints.
    pub health_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Empty when the Service has one unnamed port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
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
        let cluster_ips = addresses(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
        if cluster_ips.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Some(PortView {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: u16::try_from(port.port).ok()?,
                node_port: port.node_port.and_then(port_number),
            })
        });
        let balanced = spec.type_.as_deref() == Some("LoadBalancer");
        let external = TrafficPolicy::parse(spec.external_traffic_policy.as_deref());
        let sources = spec.load_balancer_source_ranges.iter().flatten().filter(|_| balanced);
        let health_port = spec.health_check_node_port.filter(|_| balanced && external == TrafficPolicy::Local);
        Some(Self {
            created: service.metadata.creation_timestamp.as_ref().map(|time| time.0),
            cluster_ips,
            balancer_ips: if balanced { balancer_ips(service) } else { Vec::new() },
            external_ips: addresses(spec.external_ips.iter().flatten()),
            ports: ports.collect(),
            internal: TrafficPolicy::parse(spec.internal_traffic_policy.as_deref()),
            external,
            affinity: affinity(spec),
            sources: sources.filter_map(|block| block.trim().parse().ok()).collect(),
            health_port: health_port.and_then(port_number),
        })
    }

    /// The families it is reached by.
    pub(crate) fn families(&self) -> BTreeSet<Family> {
        self.cluster_ips.iter().map(|ip| Family::of(*ip)).collect()
    }
}

/// Of mode `VIP`, which is what absent means: with `Proxy` the balancer sends to node ports.
fn balancer_ips(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref());
    let direct = ingress.into_iter().flatten().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    addresses(direct.filter_map(|ingress| ingress.ip.as_ref()))
}

fn affinity(spec: &ServiceSpec) -> Option<Affinity> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|client| u32::try_from(client.timeout_seconds?).ok());
        seconds.and_then(Affinity::of_seconds).unwrap_or(Affinity::DEFAULT)
    })
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    let all: BTreeSet<IpAddr> = texts.filter_map(|ip| ip.parse().ok()).collect();
    all.into_iter().collect()
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, Value, json};

    fn project(object: Value) -> Option<ServiceView> {
        ServiceView::project(&serde_json::from_value(object).unwrap())
    }

    fn service(spec: Value) -> Option<ServiceView> {
        project(json!({"metadata": {"name": "s"}, "spec": spec}))
    }

    #[test]
    fn services_without_a_usable_address_are_left_out() {
        for spec in [
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({"type": "ExternalName", "externalName": "example.org"}),
            json!({}),
        ] {
            assert_eq!(service(spec.clone()), None, "{spec}");
        }
        let metadata = json!({"name": "s", "labels": {"service.kubernetes.io/service-proxy-name": "other"}});
        assert_eq!(project(json!({"metadata": metadata, "spec": {"clusterIP": "10.43.0.9"}})), None);
    }

    #[test]
    fn addresses_of_both_families() {
        let view = service(json!({"clusterIP": "fd43::9", "clusterIPs": ["fd43::9", "10.43.0.9"]})).unwrap();
        assert_eq!(view.cluster_ips, ["10.43.0.9", "fd43::9"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(view.families().len(), 2);
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
        let affinity = |spec: Value| service(spec).unwrap().affinity.map(Affinity::seconds);
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
    fn a_balancers_addresses_sources_and_health() {
        let balanced = |kind: &str| {
            let ingress = json!([{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "VIP"},
                {"ip": "203.0.113.9", "ipMode": "Proxy"}, {"hostname": "lb.example.org"}]);
            project(json!({
                "metadata": {"name": "s"},
                "spec": {"type": kind, "clusterIP": "10.43.0.9", "externalTrafficPolicy": "Local",
                    "healthCheckNodePort": 31_234, "externalIPs": ["192.0.2.1"],
                    "loadBalancerSourceRanges": ["192.0.2.0/24", " 198.51.100.0/24 ", "nonsense"]},
                "status": {"loadBalancer": {"ingress": ingress}},
            }))
            .unwrap()
        };
        let view = balanced("LoadBalancer");
        assert_eq!(view.balancer_ips, ["203.0.113.7", "203.0.113.8"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!((view.sources.len(), view.health_port, view.external_ips.len()), (2, Some(31_234), 1));
        // What is left of a former type is no load balancer's.
        let former = balanced("NodePort");
        assert_eq!((former.balancer_ips, former.sources, former.health_port), (vec![], vec![], None));
    }
}
