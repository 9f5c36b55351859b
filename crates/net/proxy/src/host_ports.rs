//! `hostPort`: ports of this node that lead to one pod of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::frontend::{Backends, Endpoint, Family, Frontend, FrontendAddress, Origin, Protocol};
use crate::plan::ServicePlan;

/// What is read of a pod of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    pub created: Option<Timestamp>,
    /// The pod's own, one per family.
    pub ips: Vec<IpAddr>,
    pub ports: Vec<HostPort>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Protocol,
    /// `None`: every address of the node.
    pub address: Option<IpAddr>,
    pub number: u16,
    pub container_port: u16,
}

impl HostPorts {
    /// `None` when there is nothing to translate: no such port, no address yet, a pod that has ended, or one that uses
    /// the node's network and listens there itself.
    pub fn project(pod: &Pod) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let ports: Vec<HostPort> = ports
            .filter_map(|port| {
                let named: Option<IpAddr> = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
                Some(HostPort {
                    protocol: Protocol::parse(port.protocol.as_deref())?,
                    address: named.filter(|ip| !ip.is_unspecified()),
                    number: u16::try_from(port.host_port?).ok().filter(|number| *number != 0)?,
                    container_port: u16::try_from(port.container_port).ok()?,
                })
            })
            .collect();
        let ips: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!ports.is_empty() && !ips.is_empty()).then_some(Self { created, ips, ports })
    }

    /// The pod is no endpoint that could be withdrawn: its ports lead to it for as long as it is there.
    pub(crate) fn plan(&self) -> ServicePlan {
        let mut frontends = BTreeMap::new();
        for (port, ip) in self.ports.iter().flat_map(|port| self.ips.iter().map(move |ip| (port, *ip))) {
            let address = match port.address {
                None => FrontendAddress::Node(Family::of(ip)),
                Some(address) if Family::of(address) == Family::of(ip) => FrontendAddress::Ip(address),
                Some(_) => continue,
            };
            let endpoint = BTreeSet::from([Endpoint { ip, port: port.container_port }]);
            for origin in [Origin::Cluster, Origin::External] {
                let frontend = Frontend { origin, address, protocol: port.protocol, port: port.number };
                frontends.insert(frontend, Backends::from(endpoint.clone()));
            }
        }
        ServicePlan { frontends, local: self.ips.iter().copied().collect(), ..ServicePlan::default() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, Value, json};

    fn project(spec: Value, status: Value) -> Option<HostPorts> {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        HostPorts::project(&serde_json::from_value(pod).unwrap())
    }

    fn with_ports(ports: Value) -> Option<HostPorts> {
        let status = json!({"podIPs": [{"ip": "10.42.0.5"}, {"ip": "fd42::5"}]});
        project(json!({"containers": [{"name": "a", "ports": ports}]}), status)
    }

    #[test]
    fn a_port_leads_to_the_pods_address_of_its_family() {
        let planned = |ports: Value| {
            let frontends = with_ports(ports).unwrap().plan().frontends;
            let external = frontends.into_iter().filter(|(frontend, _)| frontend.origin == Origin::External);
            let text = |(frontend, backends): (Frontend, Backends)| {
                let to = backends.endpoints.first().unwrap().ip;
                match frontend.address {
                    FrontendAddress::Node(family) => format!("{family:?}:{} {to}", frontend.port),
                    FrontendAddress::Ip(ip) => format!("{ip}:{} {to}", frontend.port),
                }
            };
            external.map(text).collect::<Vec<_>>()
        };
        let any = json!([{"containerPort": 80, "hostPort": 8080, "hostIP": "0.0.0.0"}, {"containerPort": 81}]);
        assert_eq!(planned(any), ["V4:8080 10.42.0.5", "V6:8080 fd42::5"]);
        let one = json!([{"containerPort": 53, "hostPort": 53, "hostIP": "fd00::1", "protocol": "UDP"}]);
        assert_eq!(planned(one), ["fd00::1:53 fd42::5"]);
    }

    #[test]
    fn pods_without_such_ports_are_left_out() {
        assert_eq!(with_ports(json!([{"containerPort": 80}])), None);
        assert_eq!(with_ports(json!([{"containerPort": 80, "hostPort": 0}])), None);
        assert_eq!(with_ports(json!([{"containerPort": 80, "hostPort": 70_000}])), None);
        let port = json!([{"containerPort": 80, "hostPort": 80}]);
        let containers = json!([{"name": "a", "ports": port}]);
        let ip = json!([{"ip": "10.42.0.5"}]);
        let of = |spec: Value, status: Value| project(spec, status).is_some();
        assert!(of(json!({"containers": containers}), json!({"podIPs": ip})));
        assert!(!of(json!({"containers": containers, "hostNetwork": true}), json!({"podIPs": ip})));
        assert!(!of(json!({"containers": containers}), json!({})));
        assert!(!of(json!({"containers": containers}), json!({"podIPs": ip, "phase": "Succeeded"})));
        let plain = json!([{"name": "a"}]);
        let sidecar = json!([{"name": "s", "restartPolicy": "Always", "ports": port}]);
        assert!(of(json!({"containers": plain, "initContainers": sidecar}), json!({"podIPs": ip})));
        let before = json!([{"name": "s", "ports": port}]);
        assert!(!of(json!({"containers": plain, "initContainers": before}), json!({"podIPs": ip})));
    }
}
