//! From one Service and its slices to front ends with their endpoints. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use base_sys::route::IpCidr;

use crate::frontend::{self, Backends, Endpoint, Family, Frontend, FrontendAddress, Origin, Otherwise, Protocol};
use crate::pick::MOST_ENDPOINTS;
use crate::slice_view::{EndpointView, SliceView};
use crate::view::{ServiceView, TrafficPolicy};

/// Where this node is, and what it thinks of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    pub node_name: String,
    pub zone: Option<String>,
    /// Nodes that may be gone: their endpoints come last.
    pub suspects: BTreeSet<String>,
    /// The ranges whose addresses are the cluster's wherever a packet comes from. A further ServiceCIDR's are not among
    /// them: a packet from outside counts as external there.
    pub service_ranges: Vec<IpCidr>,
}

impl Locality {
    fn is_here(&self, endpoint: &EndpointView) -> bool {
        endpoint.node.as_deref() == Some(&self.node_name)
    }

    fn is_further(&self, address: FrontendAddress) -> bool {
        let FrontendAddress::Ip(ip) = address else { return false };
        !self.service_ranges.is_empty() && !self.service_ranges.iter().any(|range| range.contains(ip))
    }

    fn is_suspect(&self, endpoint: &EndpointView) -> bool {
        endpoint.node.as_ref().is_some_and(|node| self.suspects.contains(node))
    }
}

/// What the kernel shall do for one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    pub frontends: BTreeMap<Frontend, Backends>,
    /// Endpoints on this node: a pod that reaches itself through the Service needs another source address.
    pub local: BTreeSet<IpAddr>,
    /// Addresses that get new connections by right, not as a last resort.
    pub in_service: BTreeSet<IpAddr>,
    /// The port to say so at, and how many ready endpoints this node has.
    pub health: Option<(u16, usize)>,
}

/// Plans one Service.
pub fn plan(service: &ServiceView, slices: &[&SliceView], locality: &Locality) -> ServicePlan {
    let mut plan = ServicePlan::default();
    for (port, family) in service.ports.iter().flat_map(|port| service.families().into_iter().map(move |f| (port, f))) {
        let candidates = candidates(slices, &port.name, port.protocol, family);
        let mut chosen = Chosen { candidates: &candidates, locality, cluster: None, local: None };
        let mut add = |origin, address, number, policy, sources: Option<BTreeSet<_>>| {
            let (endpoints, otherwise) = chosen.of(policy, &mut plan);
            let frontend = Frontend { origin, address, protocol: port.protocol, port: number };
            plan.frontends.insert(frontend, Backends { endpoints, otherwise, affinity: service.affinity, sources });
        };
        let of_family = |ips: &[IpAddr]| -> Vec<FrontendAddress> {
            ips.iter().filter(|ip| Family::of(**ip) == family).map(|ip| FrontendAddress::Ip(*ip)).collect()
        };
        for address in of_family(&service.cluster_ips) {
            add(Origin::Cluster, address, port.port, service.internal, None);
            if locality.is_further(address) {
                add(Origin::External, address, port.port, service.internal, None);
            }
        }
        let guard = Some(&service.sources)
            .filter(|sources| sources.iter().any(|block| Family::of(block.network()) == family))
            .and_then(|sources| frontend::outermost(sources, family));
        let unguarded = of_family(&service.external_ips).into_iter().map(|address| (address, port.port, None));
        let node_port = port.node_port.map(|number| (FrontendAddress::Node(family), number, None));
        let balanced = of_family(&service.balancer_ips).into_iter().map(|address| (address, port.port, guard.clone()));
        // Later ones win: an external address that is the balancer's too is guarded.
        for (address, number, sources) in unguarded.chain(node_port).chain(balanced) {
            // Pods and the node itself reach every endpoint; the policy binds the outside.
            add(Origin::Cluster, address, number, TrafficPolicy::Cluster, sources.clone());
            add(Origin::External, address, number, service.external, sources);
        }
    }
    plan.health = service.health_port.map(|port| (port, local_ready(slices, locality)));
    plan
}

type Candidates<'a> = BTreeMap<Endpoint, (u64, &'a EndpointView)>;

/// Every endpoint of the named port. The same address may be in two slices while it moves; the later one is right.
fn candidates<'a>(slices: &[&'a SliceView], name: &str, protocol: Protocol, family: Family) -> Candidates<'a> {
    let mut candidates = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().filter(|(n, p, _)| n == name && *p == protocol);
        for (_, _, number) in ports {
            for view in slice.endpoints.iter().filter(|view| Family::of(view.ip) == family) {
                let entry = candidates.entry(Endpoint { ip: view.ip, port: *number }).or_insert((slice.revision, view));
                if entry.0 < slice.revision {
                    *entry = (slice.revision, view);
                }
            }
        }
    }
    candidates
}

/// A port's endpoints by policy, found once for all its front ends.
struct Chosen<'a> {
    candidates: &'a Candidates<'a>,
    locality: &'a Locality,
    cluster: Option<BTreeSet<Endpoint>>,
    local: Option<BTreeSet<Endpoint>>,
}

impl Chosen<'_> {
    /// Adds to the plan what the choice says of addresses.
    fn of(&mut self, policy: TrafficPolicy, plan: &mut ServicePlan) -> (BTreeSet<Endpoint>, Otherwise) {
        let known = match policy {
            TrafficPolicy::Cluster => &mut self.cluster,
            TrafficPolicy::Local => &mut self.local,
        };
        let endpoints = known.get_or_insert_with(|| choose(self.candidates, policy, self.locality, plan)).clone();
        // Where others have endpoints, the address may lead to them; then silence is better than a refusal.
        let usable = |view: &EndpointView| view.ready || (view.serving && view.terminating);
        let elsewhere = endpoints.is_empty() && self.candidates.values().any(|(_, view)| usable(view));
        (endpoints, if elsewhere { Otherwise::Drop } else { Otherwise::Refuse })
    }
}

/// The ready ones that are near enough; when there is none, those that still serve while they terminate.
fn choose(
    candidates: &Candidates<'_>,
    policy: TrafficPolicy,
    locality: &Locality,
    plan: &mut ServicePlan,
) -> BTreeSet<Endpoint> {
    let eligible = || {
        let all = candidates.iter().map(|(endpoint, (_, view))| (*endpoint, *view));
        all.filter(|(_, view)| policy == TrafficPolicy::Cluster || locality.is_here(view))
    };
    let mut chosen: Vec<_> = unsuspected(eligible().filter(|(_, view)| view.ready).collect(), locality);
    if policy == TrafficPolicy::Cluster {
        let near = Nearness::of(&chosen, locality);
        chosen.retain(|(_, view)| near.holds(view, locality));
    }
    chosen.truncate(MOST_ENDPOINTS);
    plan.in_service.extend(chosen.iter().map(|(endpoint, _)| endpoint.ip));
    if chosen.is_empty() {
        chosen = unsuspected(eligible().filter(|(_, view)| view.serving && view.terminating).collect(), locality);
        chosen.truncate(MOST_ENDPOINTS);
    }
    let local = chosen.iter().filter(|(_, view)| locality.is_here(view));
    plan.local.extend(local.map(|(endpoint, _)| endpoint.ip));
    chosen.into_iter().map(|(endpoint, _)| endpoint).collect()
}

/// Without those of nodes that may be gone, unless that leaves nothing.
fn unsuspected<'a>(
    endpoints: Vec<(Endpoint, &'a EndpointView)>,
    locality: &Locality,
) -> Vec<(Endpoint, &'a EndpointView)> {
    let suspect = |(_, view): &(Endpoint, &EndpointView)| locality.is_suspect(view);
    if locality.suspects.is_empty() || endpoints.iter().all(suspect) {
        return endpoints;
    }
    endpoints.into_iter().filter(|endpoint| !suspect(endpoint)).collect()
}

/// How near an endpoint must be. Upstream's rule: hints hold only where every ready endpoint has one and some are for
/// us, the node's before the zone's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nearness {
    Node,
    Zone,
    Anywhere,
}

impl Nearness {
    fn of(ready: &[(Endpoint, &EndpointView)], locality: &Locality) -> Self {
        let all = |hinted: fn(&EndpointView) -> bool| ready.iter().all(|(_, view)| hinted(view));
        let any = |near: Self| ready.iter().any(|(_, view)| near.holds(view, locality));
        if all(|view| !view.nodes.is_empty()) && any(Self::Node) {
            Self::Node
        } else if all(|view| !view.zones.is_empty()) && any(Self::Zone) {
            Self::Zone
        } else {
            Self::Anywhere
        }
    }

    fn holds(self, view: &EndpointView, locality: &Locality) -> bool {
        match self {
            Self::Node => view.nodes.contains(&locality.node_name),
            Self::Zone => locality.zone.as_ref().is_some_and(|zone| view.zones.contains(zone)),
            Self::Anywhere => true,
        }
    }
}

/// Of the family that has more: a pod of two families is one endpoint.
fn local_ready(slices: &[&SliceView], locality: &Locality) -> usize {
    let views = || slices.iter().flat_map(|slice| &slice.endpoints);
    let ready: HashSet<IpAddr> =
        views().filter(|view| view.ready && locality.is_here(view)).map(|view| view.ip).collect();
    let of = |family| ready.iter().filter(|ip| Family::of(**ip) == family).count();
    Family::ALL.into_iter().map(of).max().unwrap_or(0)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
