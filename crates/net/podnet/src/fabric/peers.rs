//! The other nodes as the pod network needs them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base_sys::route::Ipv4Cidr;
use k8s_openapi::api::core::v1::Node;
use machinery_client::{Change, ObjectKey};

/// Another node: where it is, and which pods are behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub address: Ipv4Addr,
    pub block: Ipv4Cidr,
}

impl Peer {
    /// `None` while a node has no address or no block of pod addresses.
    pub fn project(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref()?;
        let blocks = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        let block = blocks.filter_map(|block| block.parse::<Ipv4Cidr>().ok()).next()?;
        let addresses = node.status.as_ref()?.addresses.iter().flatten();
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        let address = internal.find_map(|address| address.address.parse().ok())?;
        Some(Self { name: node.metadata.name.clone()?, address, block })
    }
}

/// All of them, as last seen.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<ObjectKey, Arc<Peer>>);

impl Peers {
    pub(super) fn change(&mut self, change: Change<Peer>) {
        match change {
            Change::Applied { key, new, .. } => self.0.insert(key, new),
            Change::Deleted { key, .. } => self.0.remove(&key),
        };
    }

    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, json};

    fn project(spec: serde_json::Value, addresses: serde_json::Value) -> Option<Peer> {
        let node = json!({"metadata": {"name": "n2"}, "spec": spec, "status": {"addresses": addresses}});
        Peer::project(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_node_counts_once_it_has_an_address_and_a_block() {
        let internal = json!([{"type": "Hostname", "address": "n2"}, {"type": "InternalIP", "address": "192.0.2.2"}]);
        let spec = json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]});
        let peer = project(spec.clone(), internal.clone()).unwrap();
        assert_eq!((peer.address, peer.block.to_string()), ([192, 0, 2, 2].into(), "10.42.1.0/24".to_owned()));
        assert_eq!(project(json!({}), internal.clone()), None);
        assert_eq!(project(json!({"podCIDR": "fd00::/64"}), internal), None);
        assert_eq!(project(spec, json!([{"type": "ExternalIP", "address": "192.0.2.2"}])), None);
    }
}
