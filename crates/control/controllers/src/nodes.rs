//! What the controllers read of a node.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use machinery_client::Regarding;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub created: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    pub zone: Option<String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub conditions: Vec<NodeCondition>,
    /// Its blocks of pod addresses.
    pub pod_cidrs: Vec<String>,
    /// Volumes that it says it uses, and those that the cluster has attached to it.
    pub volumes_in_use: BTreeSet<String>,
    pub volumes_attached: BTreeSet<String>,
    /// By kind (`InternalIP`).
    pub addresses: Vec<(String, String)>,
    /// Below which directory it has its local volumes.
    pub local_directory: Option<String>,
    /// Volumes whose directories it is to remove, and whether it has.
    pub removals: BTreeMap<String, bool>,
}

/// The Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady,
    Unknown,
    /// There is no such condition: nobody has ever reported.
    Unreported,
}

impl NodeFacts {
    pub fn of(node: Node) -> Self {
        let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
        let labels = node.metadata.labels.unwrap_or_default();
        let (local_directory, removals) = crate::local_path::said(node.metadata.annotations.as_ref());
        Self {
            local_directory,
            removals,
            name: node.metadata.name.unwrap_or_default(),
            uid: node.metadata.uid.unwrap_or_default(),
            resource_version: node.metadata.resource_version.unwrap_or_default(),
            created: node.metadata.creation_timestamp.map(|time| time.0),
            zone: labels.get("topology.kubernetes.io/zone").cloned(),
            labels,
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            conditions: status.conditions.unwrap_or_default(),
            pod_cidrs: spec.pod_cidrs.into_iter().flatten().chain(spec.pod_cidr).collect(),
            volumes_in_use: status.volumes_in_use.into_iter().flatten().collect(),
            volumes_attached: status.volumes_attached.into_iter().flatten().map(|volume| volume.name).collect(),
            addresses: status.addresses.into_iter().flatten().map(|one| (one.type_, one.address)).collect(),
        }
    }

    pub fn condition(&self, kind: &str) -> Option<&NodeCondition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    pub fn readiness(&self) -> Readiness {
        match self.condition("Ready").map(|ready| ready.status.as_str()) {
            Some("True") => Readiness::Ready,
            Some("False") => Readiness::NotReady,
            Some(_) => Readiness::Unknown,
            None => Readiness::Unreported,
        }
    }

    pub fn has_taint(&self, key: &str, effect: &str) -> bool {
        self.taints.iter().any(|taint| taint.key == key && taint.effect == effect)
    }

    pub fn regarding(&self) -> Regarding {
        Regarding {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            ..Regarding::default()
        }
    }
}

/// Where nodes keep their Leases, each of its own name.
pub const LEASES: &str = "kube-node-lease";
/// On a node's Lease how far its own data plane is; on the one that tells of all nodes, the lowest.
pub const REVISION: &str = "sampan.io/programmed";

/// What a node says every few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFacts {
    pub renewed: Option<Timestamp>,
    /// The revision of EndpointSlices that its kernel follows.
    pub revision: Option<u64>,
}

impl LeaseFacts {
    pub fn of(lease: &Lease) -> Self {
        let annotations = lease.metadata.annotations.as_ref();
        Self {
            renewed: lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0),
            revision: annotations.and_then(|all| all.get(REVISION)?.parse().ok()),
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A node with a Ready condition of this status.
    pub fn node(name: &str, ready: &str) -> NodeFacts {
        NodeFacts {
            name: name.into(),
            uid: format!("uid-{name}"),
            conditions: vec![condition("Ready", ready)],
            ..NodeFacts::default()
        }
    }

    pub fn condition(kind: &str, status: &str) -> NodeCondition {
        NodeCondition { type_: kind.into(), status: status.into(), ..NodeCondition::default() }
    }
}
