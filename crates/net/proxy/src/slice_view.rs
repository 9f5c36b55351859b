//! Projections of EndpointSlices: a few hundred bytes instead of kilobytes.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::ObjectKey;

use crate::frontend::{Family, Protocol};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceView {
    pub service: ObjectKey,
    /// The object's resourceVersion.
    pub revision: u64,
    pub ports: Vec<(String, Protocol, u16)>,
    /// All of the slice's family.
    pub endpoints: Vec<EndpointView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    pub ip: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    /// Whom it is meant for first; empty where nobody said.
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

impl EndpointView {
    /// One that gets connections.
    pub fn ready(ip: IpAddr, node: &str) -> Self {
        Self {
            ip,
            ready: true,
            serving: true,
            terminating: false,
            node: Some(node.into()),
            zones: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl SliceView {
    /// `None` when the slice belongs to no Service or holds no IP addresses.
    pub fn project(slice: &EndpointSlice) -> Option<Self> {
        let meta = &slice.metadata;
        let service = meta.labels.as_ref()?.get(SERVICE_NAME)?;
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), Protocol::parse(port.protocol.as_deref())?, number))
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            // Absent means ready, as upstream reads it.
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
            let hints = endpoint.hints.as_ref();
            Some(EndpointView {
                ip: Some(ip).filter(|ip| Family::of(*ip) == family)?,
                ready,
                serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
                terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                node: endpoint.node_name.clone(),
                zones: hints.iter().flat_map(|h| h.for_zones.iter().flatten()).map(|zone| zone.name.clone()).collect(),
                nodes: hints.iter().flat_map(|h| h.for_nodes.iter().flatten()).map(|node| node.name.clone()).collect(),
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

    fn view(address_type: &str, endpoints: serde_json::Value) -> Option<SliceView> {
        let slice = json!({
            "addressType": address_type,
            "metadata": {"name": "s-1", "namespace": "n", "resourceVersion": "7", "labels": {SERVICE_NAME: "s"}},
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": endpoints,
        });
        SliceView::project(&serde_json::from_value(slice).unwrap())
    }

    #[test]
    fn absent_conditions_mean_ready() {
        let view = view(
            "IPv4",
            json!([{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
                   {"addresses": ["not an address"]}, {"addresses": ["fd42::2"]}]),
        );
        let view = view.unwrap();
        assert_eq!((view.service, view.revision), (ObjectKey::new("n", "s"), 7));
        let endpoints: Vec<_> = view.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
        assert_eq!(endpoints, [(true, true, false), (false, false, false)]);
    }

    #[test]
    fn both_families_and_their_hints() {
        let hints = json!({"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]});
        let endpoint = &view("IPv6", json!([{"addresses": ["fd42::2"], "hints": hints}])).unwrap().endpoints[0];
        assert_eq!((endpoint.zones.join(" "), endpoint.nodes.join(" ")), ("a b".into(), "n1".into()));
        assert_eq!(endpoint.ip.to_string(), "fd42::2");
        assert_eq!(view("FQDN", json!([{"addresses": ["example.org"]}])), None);
    }
}
