//! From a name of the cluster's zone to its records: pure, from a [`View`]. Follows the Kubernetes DNS specification;
//! where that is silent, CoreDNS's `kubernetes` plug-in.

use std::net::IpAddr;

use crate::facts::{Endpoint, Port, Protocol, ServiceFacts, ServiceKind, SliceFacts, View};

/// The version of the specification that `dns-version.<domain>` announces.
pub const VERSION: &str = "1.1.0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    A,
    Aaaa,
    Srv,
    Txt,
    /// A type that names below the apex have no records of.
    Other,
}

/// A record; names are relative to the cluster domain, but for that of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Address(IpAddr),
    Srv {
        weight: u16,
        port: u16,
        target: String,
    },
    /// An absolute name.
    Cname(String),
    Version,
}

/// What a name that exists has; both lists may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub records: Vec<Found>,
    /// Addresses of the names that the records point to.
    pub additional: Vec<(String, IpAddr)>,
}

impl From<Vec<Found>> for Answer {
    fn from(records: Vec<Found>) -> Self {
        Self { records, additional: Vec::new() }
    }
}

/// Answers for `labels`, the name's labels left of the cluster domain, lower case, in order; `here` are the addresses that
/// DNS is answered on. `None` is "no such name".
pub fn resolve(view: &dyn View, here: &[IpAddr], labels: &[&str], wanted: Wanted) -> Option<Answer> {
    match labels {
        [] | ["svc" | "pod" | "dns"] => Some(Answer::default()),
        ["ns", "dns"] => Some(addresses(here.iter().copied(), wanted).into()),
        ["dns-version"] => Some(if wanted == Wanted::Txt { vec![Found::Version] } else { Vec::new() }.into()),
        [namespace, "svc" | "pod"] => view.namespace_exists(namespace).then(Answer::default),
        [name, namespace, "svc"] => service(&At { view, name, namespace }, wanted),
        [protocol, name, namespace, "svc"] if protocol.starts_with('_') => {
            // It has no records of its own, but names below it may exist.
            let at = At { view, name, namespace };
            let protocol = Protocol::parse(&protocol[1..])?;
            let facts = view.service(namespace, name)?;
            let exists = match facts.kind {
                ServiceKind::Cluster(_) => facts.ports.iter().any(|port| named(port, None, protocol)),
                ServiceKind::Headless => at.endpoints(None).any(|(_, port)| named(&port, None, protocol)),
                ServiceKind::External(_) => false,
            };
            exists.then(Answer::default)
        }
        [label, name, namespace, "svc"] => endpoint(&At { view, name, namespace }, label, wanted),
        [port, protocol, name, namespace, "svc"] => {
            let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
            service_port(&At { view, name, namespace }, port, Protocol::parse(protocol)?, wanted)
        }
        [address, namespace, "pod"] => pod(view, address, namespace, wanted),
        _ => None,
    }
}

/// A Service by name.
struct At<'a> {
    view: &'a dyn View,
    name: &'a str,
    namespace: &'a str,
}

impl At<'_> {
    fn facts(&self) -> Option<std::sync::Arc<ServiceFacts>> {
        self.view.service(self.namespace, self.name)
    }

    fn target(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Each endpoint (of that label) with each of its ports; one without ports once, with port 0.
    fn endpoints(&self, label: Option<&str>) -> impl Iterator<Item = (Endpoint, Port)> {
        let none = || Port { name: "".into(), protocol: Protocol::Tcp, number: 0 };
        let mut all = Vec::new();
        for slice in self.view.slices(self.namespace, self.name) {
            let SliceFacts { endpoints, ports, .. } = &*slice;
            for endpoint in endpoints.iter().filter(|endpoint| label.is_none_or(|label| endpoint.label() == label)) {
                all.extend(ports.iter().map(|port| (endpoint.clone(), port.clone())));
                if ports.is_empty() {
                    all.push((endpoint.clone(), none()));
                }
            }
        }
        all.into_iter()
    }

    fn endpoint_target(&self, endpoint: &Endpoint) -> String {
        format!("{}.{}", endpoint.label(), self.target())
    }
}

/// The Service's own name.
fn service(at: &At<'_>, wanted: Wanted) -> Option<Answer> {
    let facts = at.facts()?;
    match &facts.kind {
        // An address is no name to be an alias of.
        ServiceKind::External(target) if target.parse::<IpAddr>().is_ok() => None,
        ServiceKind::External(target) => Some(vec![Found::Cname(target.to_string())].into()),
        ServiceKind::Headless => from_endpoints(at, at.endpoints(None).collect(), wanted),
        ServiceKind::Cluster(ips) => Some(match wanted {
            Wanted::Srv => cluster_srv(at, facts.ports.iter(), ips),
            _ => addresses(ips.iter().copied(), wanted).into(),
        }),
    }
}

/// An endpoint's name below its Service's.
fn endpoint(at: &At<'_>, label: &str, wanted: Wanted) -> Option<Answer> {
    at.facts().filter(|facts| !matches!(facts.kind, ServiceKind::External(_)))?;
    from_endpoints(at, at.endpoints(Some(label)).collect(), wanted)
}

/// `_http._tcp` below the Service's name.
fn service_port(at: &At<'_>, port: &str, protocol: Protocol, wanted: Wanted) -> Option<Answer> {
    let facts = at.facts()?;
    let is_it = |candidate: &Port| !port.is_empty() && named(candidate, Some(port), protocol);
    let answer = match &facts.kind {
        ServiceKind::External(_) => return None,
        ServiceKind::Headless => {
            from_endpoints(at, at.endpoints(None).filter(|(_, port)| is_it(port)).collect(), Wanted::Srv)?
        }
        ServiceKind::Cluster(ips) => {
            let ports: Vec<&Port> = facts.ports.iter().filter(|port| is_it(port)).collect();
            if ports.is_empty() {
                return None;
            }
            cluster_srv(at, ports.into_iter(), ips)
        }
    };
    Some(if wanted == Wanted::Srv { answer } else { Answer::default() })
}

fn named(port: &Port, name: Option<&str>, protocol: Protocol) -> bool {
    port.protocol == protocol && name.is_none_or(|name| *port.name == *name)
}

fn cluster_srv<'p>(at: &At<'_>, ports: impl Iterator<Item = &'p Port>, ips: &[IpAddr]) -> Answer {
    let mut numbers: Vec<u16> = ports.map(|port| port.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let target = at.target();
    let weight = weight(numbers.len());
    let records = numbers.into_iter().map(|port| Found::Srv { weight, port, target: target.clone() }).collect();
    Answer { records, additional: ips.iter().map(|ip| (target.clone(), *ip)).collect() }
}

/// `None` where there are no endpoints: the name does not exist then.
fn from_endpoints(at: &At<'_>, mut found: Vec<(Endpoint, Port)>, wanted: Wanted) -> Option<Answer> {
    if found.is_empty() {
        return None;
    }
    if wanted != Wanted::Srv {
        let mut ips: Vec<IpAddr> = found.iter().map(|(endpoint, _)| endpoint.address).collect();
        ips.sort_unstable();
        ips.dedup();
        return Some(addresses(ips.into_iter(), wanted).into());
    }
    found.retain(|(_, port)| port.number != 0);
    let mut targets: Vec<(u16, String)> =
        found.iter().map(|(endpoint, port)| (port.number, at.endpoint_target(endpoint))).collect();
    targets.sort_unstable();
    targets.dedup();
    let mut additional: Vec<(String, IpAddr)> =
        found.iter().map(|(endpoint, _)| (at.endpoint_target(endpoint), endpoint.address)).collect();
    additional.sort_unstable();
    additional.dedup();
    let weight = weight(targets.len());
    let records = targets.into_iter().map(|(port, target)| Found::Srv { weight, port, target }).collect();
    Some(Answer { records, additional })
}

/// CoreDNS shares a hundred among the records of a name.
fn weight(records: usize) -> u16 {
    u16::try_from(100 / records.max(1)).unwrap_or(1).max(1)
}

fn addresses(all: impl Iterator<Item = IpAddr>, wanted: Wanted) -> Vec<Found> {
    all.filter(|ip| (wanted == Wanted::A && ip.is_ipv4()) || (wanted == Wanted::Aaaa && ip.is_ipv6()))
        .map(Found::Address)
        .collect()
}

/// `10-42-0-3.default.pod`: the address is in the name.
fn pod(view: &dyn View, label: &str, namespace: &str, wanted: Wanted) -> Option<Answer> {
    let v4 = label.matches('-').count() == 3 && !label.contains("--");
    let text = label.replace('-', if v4 { "." } else { ":" });
    let address: IpAddr = text.parse().ok().filter(|_| view.namespace_exists(namespace))?;
    Some(addresses(std::iter::once(address), wanted).into())
}

/// The names that an address leads to: of the Service whose ClusterIP it is, else of the endpoints that have it.
pub fn reverse(view: &dyn View, address: IpAddr) -> Vec<String> {
    if let Some(service) = view.service_at(address) {
        return vec![format!("{}.{}.svc", service.name, service.namespace)];
    }
    let mut names: Vec<String> = view
        .slices_at(address)
        .iter()
        .flat_map(|slice| {
            let at = &slice.service;
            let here = slice.endpoints.iter().filter(|endpoint| endpoint.address == address);
            here.map(|endpoint| format!("{}.{}.{}.svc", endpoint.label(), at.name, at.namespace)).collect::<Vec<_>>()
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
