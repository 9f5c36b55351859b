//! Projections of the API objects: what policies select and what they allow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base_meta::selector::LabelSelector;
pub use base_sys::ip::Protocol;
use base_sys::route::IpCidr;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Typed;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub uid: String,
    pub labels: Labels,
    pub ips: Vec<IpAddr>,
    pub ports: Vec<NamedPort>,
    /// On this node.
    pub local: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    pub name: String,
    pub protocol: Protocol,
    pub number: u16,
}

/// A direction that the policy says nothing about is `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyView {
    pub selector: LabelSelector,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}

impl PolicyView {
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `None` is anybody.
    pub peers: Option<Vec<Peer>>,
    /// `None` is any port of any protocol.
    pub ports: Option<Vec<PortRule>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Peer {
    Pods {
        /// `None` is the policy's own namespace.
        namespaces: Option<LabelSelector>,
        pods: LabelSelector,
    },
    Block {
        block: IpCidr,
        except: Vec<IpCidr>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    pub protocol: Protocol,
    pub ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    All,
    Between(u16, u16),
    /// Of the pod that is connected to.
    Named(String),
}

/// The whole of a pod that policies and peers see; `None` for one that has the node's address, or has ended.
pub fn pod(pod: &Pod, node_name: &str) -> Option<PodView> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref();
    let ended = matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
    if ended || spec.host_network == Some(true) {
        return None;
    }
    let restarting = spec.init_containers.iter().flatten().filter(|init| init.restart_policy.is_some());
    let ports = spec.containers.iter().chain(restarting).flat_map(|container| container.ports.iter().flatten());
    let named = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let name = port.name.clone().filter(|name| !name.is_empty())?;
        let number = u16::try_from(port.container_port).ok()?;
        Some(NamedPort { name, protocol: protocol(port.protocol.as_deref()), number })
    };
    let ips = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    Some(PodView {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        ips: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
        ports: ports.filter_map(named).collect(),
        local: spec.node_name.as_deref() == Some(node_name),
    })
}

pub fn namespace(namespace: Namespace) -> Labels {
    namespace.metadata.labels.unwrap_or_default()
}

pub fn policy(policy: NetworkPolicy) -> PolicyView {
    let spec = policy.spec.unwrap_or_default();
    let (ingress, egress) = (spec.ingress.unwrap_or_default(), spec.egress.unwrap_or_default());
    let named = |name: &str| spec.policy_types.iter().flatten().any(|kind| kind == name);
    // As the API's defaults: a policy that names no direction is about incoming traffic, and about outgoing if it has rules.
    let unnamed = spec.policy_types.as_ref().is_none_or(Vec::is_empty);
    let incoming = unnamed || named("Ingress");
    let outgoing = named("Egress") || (unnamed && !egress.is_empty());
    PolicyView {
        // No selector at all is the empty one: every pod of the namespace.
        selector: spec.pod_selector.as_ref().map_or_else(LabelSelector::everything, selector),
        ingress: incoming.then(|| ingress.into_iter().map(|rule| self::rule(rule.from, rule.ports)).collect()),
        egress: outgoing.then(|| egress.into_iter().map(|rule| self::rule(rule.to, rule.ports)).collect()),
    }
}

fn rule(peers: Option<Vec<NetworkPolicyPeer>>, ports: Option<Vec<NetworkPolicyPort>>) -> Rule {
    Rule {
        peers: peers.filter(|peers| !peers.is_empty()).map(|peers| peers.into_iter().filter_map(peer).collect()),
        ports: ports.filter(|ports| !ports.is_empty()).map(|ports| ports.into_iter().filter_map(port).collect()),
    }
}

/// `None` for one that matches nobody.
fn peer(peer: NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = peer.ip_block {
        let except = block.except.into_iter().flatten().filter_map(|block| block.parse().ok()).collect();
        return Some(Peer::Block { block: block.cidr.parse().ok()?, except });
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return None;
    }
    let pods = peer.pod_selector.as_ref().map_or_else(LabelSelector::everything, selector);
    Some(Peer::Pods { namespaces: peer.namespace_selector.as_ref().map(selector), pods })
}

/// One that cannot be read selects nobody; the API server lets none of these in.
fn selector(typed: &Typed) -> LabelSelector {
    LabelSelector::from_typed(Some(typed)).unwrap_or_else(|_| LabelSelector::nothing())
}

fn port(port: NetworkPolicyPort) -> Option<PortRule> {
    let number = |number: i32| u16::try_from(number).ok();
    let ports = match port.port {
        None => Ports::All,
        Some(IntOrString::String(name)) => Ports::Named(name),
        Some(IntOrString::Int(first)) => Ports::Between(number(first)?, number(port.end_port.unwrap_or(first))?),
    };
    Some(PortRule { protocol: protocol(port.protocol.as_deref()), ports })
}

/// The API server lets no other name in.
fn protocol(name: Option<&str>) -> Protocol {
    Protocol::parse(name).unwrap_or(Protocol::Tcp)
}
