//! What the policies allow the pods of this node, from everything that is known of the cluster. Pure.
//!
//! Pods that the same policies select form a class. A class is isolated: it may talk to what its policies' rules allow, and
//! to nobody else. A pod that no policy selects is in no class and may talk to anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use machinery_client::ObjectKey;

use crate::ranges::{self, Block, Range, Service};
use crate::view::{Direction, Labels, NamedPort, Peer, PodView, PolicyView, PortRule, Ports, Protocol, Rule};

/// Everything that is known.
#[derive(Clone, Copy)]
pub struct Snapshot<'s> {
    pub policies: &'s BTreeMap<ObjectKey, &'s PolicyView>,
    pub namespaces: &'s HashMap<&'s str, &'s Labels>,
    pub pods: &'s BTreeMap<ObjectKey, &'s PodView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub ingress: Side,
    pub egress: Side,
}

impl Plan {
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether no pod of this node is isolated.
    pub fn is_empty(&self) -> bool {
        self.ingress.members.is_empty() && self.egress.members.is_empty()
    }
}

/// One direction, as the pods of this node see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub members: BTreeMap<IpAddr, Class>,
    pub classes: BTreeMap<Class, Allowed>,
}

/// What makes pods be treated alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    pub policies: Vec<ObjectKey>,
    /// What the names of ports in incoming rules mean on these pods.
    pub ports: Vec<NamedPort>,
}

/// Whom a class may talk to; an address may be in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Everything with these.
    pub peers: BTreeSet<IpAddr>,
    pub ports: BTreeSet<(IpAddr, Protocol, u16)>,
    /// Blocks of addresses, ranges of ports, whole protocols. They do not overlap.
    pub ranges: BTreeSet<Range>,
}

pub fn plan(snapshot: Snapshot<'_>) -> Plan {
    Plan { ingress: side(snapshot, Direction::Ingress), egress: side(snapshot, Direction::Egress) }
}

fn side(snapshot: Snapshot<'_>, direction: Direction) -> Side {
    let mut side = Side::default();
    for (key, pod) in snapshot.pods.iter().filter(|(_, pod)| pod.local && !pod.ips.is_empty()) {
        let Some(class) = class(snapshot, direction, &key.namespace, pod) else { continue };
        side.members.extend(pod.ips.iter().map(|ip| (*ip, class.clone())));
        side.classes.entry(class).or_default();
    }
    for (class, allowed) in &mut side.classes {
        *allowed = Collector { snapshot, direction, class, allowed: Allowed::default(), blocks: Vec::new() }.collect();
    }
    side
}

/// `None` for a pod that may talk to anybody.
fn class(snapshot: Snapshot<'_>, direction: Direction, namespace: &str, pod: &PodView) -> Option<Class> {
    let mut class = Class::default();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (key, policy) in snapshot.policies.iter().filter(|(key, _)| key.namespace == namespace) {
        let Some(rules) = policy.rules(direction) else { continue };
        if policy.selector.matches_labels(&pod.labels) {
            class.policies.push(key.clone());
            names.extend(rules.iter().flat_map(port_names));
        }
    }
    if class.policies.is_empty() {
        return None;
    }
    if direction == Direction::Ingress {
        class.ports = pod.ports.iter().filter(|port| names.contains(port.name.as_str())).cloned().collect();
        class.ports.sort();
        class.ports.dedup();
    }
    Some(class)
}

fn port_names(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.ports.iter().flatten().filter_map(|port| match &port.ports {
        Ports::Named(name) => Some(name.as_str()),
        Ports::All | Ports::Between(..) => None,
    })
}

/// Adds up the rules of one class.
struct Collector<'s> {
    snapshot: Snapshot<'s>,
    direction: Direction,
    class: &'s Class,
    allowed: Allowed,
    blocks: Vec<Block>,
}

impl Collector<'_> {
    fn collect(mut self) -> Allowed {
        for key in &self.class.policies {
            let policy = self.snapshot.policies.get(key);
            for rule in policy.and_then(|policy| policy.rules(self.direction)).into_iter().flatten() {
                self.add(&key.namespace, rule);
            }
        }
        self.allowed.ranges = ranges::disjoint(&self.blocks).into_iter().collect();
        self.allowed
    }

    fn add(&mut self, namespace: &str, rule: &Rule) {
        let Some(peers) = &rule.peers else {
            let v6 = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from(u128::MAX)));
            return self.add_blocks(&[(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()), v6], rule);
        };
        for peer in peers {
            match peer {
                Peer::Block { block, except } => self.add_blocks(&ranges::without(*block, except), rule),
                Peer::Pods { namespaces, pods } => {
                    for (key, pod) in self.snapshot.pods {
                        let there = match namespaces {
                            None => key.namespace == namespace,
                            Some(selector) => {
                                let labels = self.snapshot.namespaces.get(key.namespace.as_str());
                                labels.is_some_and(|labels| selector.matches_labels(*labels))
                            }
                        };
                        if there && pods.matches_labels(&pod.labels) {
                            self.add_pod(pod, rule);
                        }
                    }
                }
            }
        }
    }

    fn add_blocks(&mut self, blocks: &[(IpAddr, IpAddr)], rule: &Rule) {
        let services: Vec<Service> = match &rule.ports {
            None => vec![Service::Everything],
            // Behind the addresses of a block there are no pods whose ports could have names.
            Some(ports) => ports.iter().flat_map(|port| self.services(port, None)).collect(),
        };
        for (first, last) in blocks {
            let block = |service| Block { first: *first, last: *last, service };
            self.blocks.extend(services.iter().map(|service| block(*service)));
        }
    }

    fn add_pod(&mut self, pod: &PodView, rule: &Rule) {
        let Some(ports) = &rule.ports else {
            return self.allowed.peers.extend(&pod.ips);
        };
        for service in ports.iter().flat_map(|port| self.services(port, Some(pod))).collect::<Vec<_>>() {
            for ip in &pod.ips {
                match service {
                    Service::Ports(protocol, first, last) if first == last => {
                        self.allowed.ports.insert((*ip, protocol, first));
                    }
                    _ => self.blocks.push(Block { first: *ip, last: *ip, service }),
                }
            }
        }
    }

    /// `peer` is the pod at the other end, where it is one.
    fn services(&self, port: &PortRule, peer: Option<&PodView>) -> Vec<Service> {
        let protocol = port.protocol;
        let name = match &port.ports {
            Ports::All => return vec![Service::Ports(protocol, 0, u16::MAX)],
            Ports::Between(first, last) => return vec![Service::Ports(protocol, *first, *last)],
            Ports::Named(name) => name,
        };
        // The name is one of the pod that is connected to.
        let named = match self.direction {
            Direction::Ingress => &self.class.ports[..],
            Direction::Egress => peer.map_or(&[][..], |pod| &pod.ports),
        };
        let meant = named.iter().filter(|port| port.name == *name && port.protocol == protocol);
        meant.map(|port| Service::Ports(protocol, port.number, port.number)).collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
