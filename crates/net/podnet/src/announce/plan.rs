//! Which node answers for which address of a load balancer. Pure: every node comes to the same result by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

/// A Service that has addresses to be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// `externalTrafficPolicy: Local`: by a node that has an endpoint.
    pub(super) local: bool,
}

/// What each of the addresses may be announced by.
pub(super) struct Candidates<'a> {
    /// Ready ones that answer.
    pub(super) nodes: &'a BTreeSet<String>,
    /// With a ready endpoint of the Service.
    pub(super) with_endpoints: BTreeSet<String>,
}

/// The addresses that `own` answers for.
pub(super) fn plan<'a>(
    own: &str,
    services: impl IntoIterator<Item = (&'a Announced, Candidates<'a>)>,
) -> BTreeSet<IpAddr> {
    let mut all: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for (service, candidates) in services {
        let Candidates { nodes, with_endpoints } = candidates;
        let here = nodes.intersection(&with_endpoints).cloned().collect::<BTreeSet<_>>();
        // Without an endpoint anywhere it does not matter who refuses.
        let among = if service.local && !here.is_empty() { &here } else { nodes };
        for address in &service.addresses {
            *all.entry(*address).or_default() |= elected(*address, among) == Some(own);
        }
    }
    all.into_iter().filter(|(_, mine)| *mine).map(|(address, _)| address).collect()
}

/// The node with the highest hash (rendezvous hashing): one that goes moves its own addresses only.
fn elected(address: IpAddr, among: &BTreeSet<String>) -> Option<&str> {
    let weight = |node: &&String| {
        let mut hash = Sha256::new();
        match address {
            IpAddr::V4(four) => hash.update(four.octets()),
            IpAddr::V6(six) => hash.update(six.octets()),
        }
        hash.update(node.as_bytes());
        <[u8; 32]>::from(hash.finalize())
    };
    among.iter().max_by_key(weight).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn owners(nodes: &[&str], with_endpoints: &[&str], local: bool) -> BTreeMap<IpAddr, String> {
        let addresses: BTreeSet<IpAddr> = (1..=40).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let service = Announced { addresses: addresses.clone(), local };
        let nodes = names(nodes);
        let mut owners = BTreeMap::new();
        for node in &nodes {
            let candidates = Candidates { nodes: &nodes, with_endpoints: names(with_endpoints) };
            for address in plan(node, [(&service, candidates)]) {
                assert_eq!(owners.insert(address, node.clone()), None, "two answer for {address}");
            }
        }
        assert_eq!(owners.len(), addresses.len(), "somebody answers for each");
        owners
    }

    #[test]
    fn one_node_answers_for_each_and_a_node_that_goes_moves_its_own_only() {
        let before = owners(&["a", "b", "c"], &[], false);
        let after = owners(&["a", "b"], &[], false);
        assert!(["a", "b", "c"].iter().all(|node| before.values().any(|owner| owner == node)), "{before:?}");
        for (address, owner) in &before {
            assert!(owner == "c" || after[address] == *owner, "{address} moved from {owner}");
        }
    }

    #[test]
    fn a_local_policy_wants_endpoints_where_there_are_any() {
        assert!(owners(&["a", "b", "c"], &["b"], true).values().all(|owner| owner == "b"));
        assert_eq!(owners(&["a", "b"], &[], true), owners(&["a", "b"], &[], false));
        assert_eq!(owners(&["a", "b"], &["gone"], true), owners(&["a", "b"], &[], false));
    }
}
