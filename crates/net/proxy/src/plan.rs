//! From one Service and its slices to front ends with their endpoints. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::frontend::{Backends, Endpoint, Frontend, FrontendAddress, Origin, Protocol};
use crate::pick::MOST_ENDPOINTS;
use crate::view::{EndpointView, ServiceView, SliceView, TrafficPolicy};

/// Which endpoints are this node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locality {
    pub node_name: String,
}

impl Locality {
    fn is_here(&self, endpoint: &EndpointView) -> bool {
        endpoint.node.as_deref() == Some(&self.node_name)
    }
}

/// What the kernel shall do for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// No endpoints means: refuse at once.
    pub frontends: BTreeMap<Frontend, Backends>,
    /// Endpoints on this node: a pod that reaches itself through the Service needs another source address.
    pub local: BTreeSet<Ipv4Addr>,
    /// Addresses that get new connections by right, not as a last resort.
    pub in_service: BTreeSet<Ipv4Addr>,
}

/// Plans one Service.
pub fn plan(service: &ServiceView, slices: &[&SliceView], locality: &Locality) -> ServicePlan {
    let mut plan = ServicePlan::default();
    for port in &service.ports {
        let candidates = candidates(slices, &port.name, port.protocol);
        let mut add = |origin, address, number, policy| {
            let endpoints = plan_endpoints(&candidates, policy, locality, &mut plan.local, &mut plan.in_service);
            let frontend = Frontend { origin, address, protocol: port.protocol, port: number };
            plan.frontends.insert(frontend, Backends { endpoints, affinity: service.affinity });
        };
        for ip in &service.cluster_ips {
            add(Origin::Cluster, FrontendAddress::Ip(*ip), port.port, service.internal);
        }
        if let Some(node_port) = port.node_port {
            // Pods and the node itself reach every endpoint through a node port; policy binds the outside.
            add(Origin::Cluster, FrontendAddress::Node, node_port, TrafficPolicy::Cluster);
            add(Origin::External, FrontendAddress::Node, node_port, service.external);
        }
    }
    plan
}

/// Every endpoint of the named port. The same address may be in two slices while it moves; the later one is right.
fn candidates<'a>(
    slices: &[&'a SliceView],
    name: &str,
    protocol: Protocol,
) -> BTreeMap<Endpoint, (u64, &'a EndpointView)> {
    let mut candidates = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().filter(|(n, p, _)| n == name && *p == protocol);
        for (_, _, number) in ports {
            for view in &slice.endpoints {
                let entry = candidates.entry(Endpoint { ip: view.ip, port: *number }).or_insert((slice.revision, view));
                if entry.0 < slice.revision {
                    *entry = (slice.revision, view);
                }
            }
        }
    }
    candidates
}

/// The ready ones; when there is none, those that still serve while they terminate.
fn plan_endpoints(
    candidates: &BTreeMap<Endpoint, (u64, &EndpointView)>,
    policy: TrafficPolicy,
    locality: &Locality,
    local: &mut BTreeSet<Ipv4Addr>,
    in_service: &mut BTreeSet<Ipv4Addr>,
) -> BTreeSet<Endpoint> {
    let eligible = || {
        let all = candidates.iter().map(|(endpoint, (_, view))| (endpoint, *view));
        all.filter(|(_, view)| policy == TrafficPolicy::Cluster || locality.is_here(view))
    };
    let mut chosen: Vec<_> = eligible().filter(|(_, view)| view.ready).take(MOST_ENDPOINTS).collect();
    in_service.extend(chosen.iter().map(|(endpoint, _)| endpoint.ip));
    if chosen.is_empty() {
        chosen = eligible().filter(|(_, view)| view.serving && view.terminating).take(MOST_ENDPOINTS).collect();
    }
    local.extend(chosen.iter().filter(|(_, view)| locality.is_here(view)).map(|(endpoint, _)| endpoint.ip));
    chosen.into_iter().map(|(endpoint, _)| *endpoint).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
