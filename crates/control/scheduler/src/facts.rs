//! What scheduling reads of pods and nodes.

use std::collections::BTreeMap;

use api::node_selector::NodeSelection;
use api::volume::{self, Use};
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery_client::ObjectKey;

/// Amounts by resource name, in thousandths: `cpu` 100m is 100, `memory` 1Ki is 1,024,000.
pub type Amounts = BTreeMap<String, i128>;

#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    pub key: ObjectKey,
    pub uid: String,
    pub scheduler: String,
    pub node: Option<String>,
    /// Ended: holds nothing.
    pub terminal: bool,
    pub deleting: bool,
    /// Scheduling gates that are not yet lifted.
    pub gated: bool,
    /// The Unschedulable condition's message, where one is set.
    pub unschedulable: Option<String>,
    pub requests: Amounts,
    pub nodes: NodeSelection,
    pub tolerations: Vec<Toleration>,
    /// (protocol, host address, port).
    pub host_ports: Vec<(String, String, i32)>,
    pub claims: Vec<Use>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Amounts,
}

impl PodFacts {
    pub fn of(pod: Pod) -> Self {
        let key = ObjectKey::of(&pod);
        let requests = api::pod::requests::reserved(&pod);
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        let nodes = NodeSelection::of(&spec);
        let claims = volume::uses(&key.name, &spec);
        let mut requests: Amounts =
            requests.into_iter().map(|(name, amount)| (name, amount.milli_value().into())).collect();
        *requests.entry("pods".into()).or_default() += 1000;
        let host_network = spec.host_network == Some(true);
        let host_ports = spec
            .containers
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let number = port.host_port.or(host_network.then_some(port.container_port)).filter(|port| *port > 0)?;
                let address = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
                Some((port.protocol.clone().unwrap_or_else(|| "TCP".into()), address, number))
            })
            .collect();
        Self {
            key,
            uid: pod.metadata.uid.unwrap_or_default(),
            scheduler: spec.scheduler_name.unwrap_or_default(),
            node: spec.node_name.filter(|name| !name.is_empty()),
            terminal: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            gated: spec.scheduling_gates.is_some_and(|gates| !gates.is_empty()),
            unschedulable: status
                .conditions
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
                .and_then(|condition| condition.message),
            requests,
            nodes,
            tolerations: spec.tolerations.unwrap_or_default(),
            host_ports,
            claims,
        }
    }

    /// Waits for this scheduler.
    pub fn pending(&self) -> bool {
        self.node.is_none() && !self.terminal && !self.deleting && !self.gated && self.scheduler == "default-scheduler"
    }
}

impl NodeFacts {
    pub fn of(node: Node) -> Self {
        let spec = node.spec.unwrap_or_default();
        Self {
            name: node.metadata.name.unwrap_or_default(),
            labels: node.metadata.labels.unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable: amounts(node.status.unwrap_or_default().allocatable.as_ref()),
        }
    }
}

fn amounts(list: Option<&BTreeMap<String, Text>>) -> Amounts {
    // Validation lets no other text in.
    list.into_iter()
        .flatten()
        .filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?.milli_value().into())))
        .collect()
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_default() += amount;
    }
}
