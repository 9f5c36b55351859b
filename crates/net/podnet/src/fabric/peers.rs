//! The other nodes as the pod network needs them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base_sys::route::IpCidr;
use k8s_openapi::api::core::v1::Node;
use machinery_client::{Change, ObjectKey};

/// What the pod network reads of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    /// It says that it can run pods.
    pub(crate) ready: bool,
    /// Of all kinds.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where it is; `None` while it has no address or no block of pod addresses.
    pub(crate) peer: Option<Arc<Peer>>,
}

/// A node: where it is, and which pods are behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(super) name: String,
    /// Of its own network, by which other nodes reach it.
    pub(super) addresses: Vec<IpAddr>,
    /// At most one of each family; the first one tells its place in the tunnel.
    pub(super) blocks: Vec<IpCidr>,
}

impl NodeView {
    pub(crate) fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        Self {
            ready: conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True"),
            addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
            peer: Peer::of(node).map(Arc::new),
        }
    }
}

impl Peer {
    fn of(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref()?;
        let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        let mut blocks: Vec<IpCidr> = Vec::new();
        for block in all.filter_map(|block| block.parse::<IpCidr>().ok()) {
            if blocks.iter().all(|other| other.is_ipv4() != block.is_ipv4()) {
                blocks.push(block);
            }
        }
        let addresses = node.status.as_ref()?.addresses.iter().flatten();
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        let addresses: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
        let known = !addresses.is_empty() && !blocks.is_empty();
        known.then_some(Self { name: node.metadata.name.clone()?, addresses, blocks })
    }

    /// Its address of the same family as another.
    pub(super) fn address_beside(&self, other: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4() == other.is_ipv4()).copied()
    }
}

/// All the others, as last seen.
#[derive(Debug)]
pub(super) struct Peers {
    own: String,
    others: BTreeMap<ObjectKey, Arc<Peer>>,
}

impl Peers {
    pub(super) fn of(own: &str) -> Self {
        Self { own: own.to_owned(), others: BTreeMap::new() }
    }

    pub(super) fn change(&mut self, change: Change<NodeView>) {
        let (key, peer) = match change {
            Change::Applied { key, new, .. } => (key, new.peer.clone()),
            Change::Deleted { key, .. } => (key, None),
        };
        match peer.filter(|peer| peer.name != self.own) {
            Some(peer) => self.others.insert(key, peer),
            None => self.others.remove(&key),
        };
    }

    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        self.others.values().cloned().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use k8s_openapi::serde_json::{self, json};

    fn view(spec: serde_json::Value, addresses: serde_json::Value) -> NodeView {
        let node = json!({"metadata": {"name": "n2"}, "spec": spec, "status": {"addresses": addresses}});
        NodeView::of(&serde_json::from_value(node).unwrap())
    }

    fn project(spec: serde_json::Value, addresses: serde_json::Value) -> Option<Peer> {
        view(spec, addresses).peer.map(|peer| (*peer).clone())
    }

    #[test]
    fn a_node_counts_once_it_has_an_address_and_a_block() {
        let internal = json!([{"type": "Hostname", "address": "n2"}, {"type": "InternalIP", "address": "192.0.2.2"}]);
        let spec = json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]});
        let peer = project(spec.clone(), internal.clone()).unwrap();
        let blocks: Vec<String> = peer.blocks.iter().map(ToString::to_string).collect();
        assert_eq!((peer.addresses, blocks), (vec![[192, 0, 2, 2].into()], vec!["10.42.1.0/24".to_owned()]));
        let both = json!({"podCIDRs": ["fd42:0:0:1::/64", "10.42.1.0/24", "10.42.2.0/24", "x"]});
        let peer = project(both, json!([{"type": "InternalIP", "address": "fd00::2"}])).unwrap();
        assert_eq!((peer.blocks.len(), peer.address_beside("::1".parse().unwrap())), (2, Some(peer.addresses[0])));
        assert_eq!(peer.address_beside([127, 0, 0, 1].into()), None);
        assert_eq!(project(json!({}), internal.clone()), None);
        assert_eq!(project(json!({"podCIDR": "nonsense"}), internal), None);
        assert_eq!(project(spec, json!([{"type": "ExternalIP", "address": "192.0.2.2"}])), None);
    }

    #[test]
    fn this_node_is_none_of_the_others() {
        let internal = json!([{"type": "InternalIP", "address": "192.0.2.2"}]);
        let new = Arc::new(view(json!({"podCIDR": "10.42.1.0/24"}), internal));
        let key = ObjectKey::new("", "n2");
        for (own, others) in [("n1", 1), ("n2", 0)] {
            let mut peers = Peers::of(own);
            peers.change(Change::Applied { key: key.clone(), old: None, new: Arc::clone(&new) });
            assert_eq!(peers.all().len(), others, "{own}");
            peers.change(Change::Deleted { key: key.clone(), old: Arc::clone(&new) });
            assert_eq!(peers.all().len(), 0);
        }
    }
}
