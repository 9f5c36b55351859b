//! Which addresses each Service of type LoadBalancer has. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use machinery_client::ObjectKey;

use super::pool::Pool;
use crate::endpoints::Family;

/// What is read of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balanced {
    /// Of this type, and ours to serve.
    pub wanted: bool,
    /// Which it is reached by.
    pub families: Vec<Family>,
    /// `spec.loadBalancerIP`.
    pub asked: Option<IpAddr>,
    pub ports: BTreeSet<(String, i32)>,
    /// `externalTrafficPolicy: Local`: only nodes with an endpoint of it take traffic.
    pub local: bool,
    /// `spec.externalIPs`.
    pub external: Vec<IpAddr>,
    /// What its status says now.
    pub has: Vec<IpAddr>,
    /// RFC 3339, so that the older one keeps what two want.
    pub created: String,
}

/// What is read of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    pub name: String,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These addresses lead to it.
    Addresses(Vec<IpAddr>),
    /// It stays pending, and its user is told why.
    Pending { reason: &'static str, message: String },
}

/// The addresses there are to give.
#[derive(Clone, Debug, Default)]
pub struct Supply {
    /// Where it is empty, the nodes' own addresses are shared.
    pub pool: Pool,
    /// TCP ports of the nodes' own addresses that are taken by Sampan itself.
    pub reserved: Vec<u16>,
}

/// Everything together, since Services compete. `endpoints`: the nodes that have ready endpoints of a Service.
pub fn plan(
    services: &BTreeMap<ObjectKey, Balanced>,
    supply: &Supply,
    nodes: &[NodeAddresses],
    endpoints: impl Fn(&ObjectKey) -> BTreeSet<String>,
) -> BTreeMap<ObjectKey, Verdict> {
    let Supply { pool, reserved } = supply;
    let mut wanted: Vec<(&ObjectKey, &Balanced)> = services.iter().filter(|(_, service)| service.wanted).collect();
    wanted.sort_by_key(|(key, service)| (&service.created, *key));
    if pool.is_empty() { by_nodes(&wanted, reserved, nodes, endpoints) } else { by_pool(&wanted, pool) }
}

/// Each has addresses of its own, one of each of its families that the pool has. Who has one keeps it.
fn by_pool(wanted: &[(&ObjectKey, &Balanced)], pool: &Pool) -> BTreeMap<ObjectKey, Verdict> {
    let mut used: BTreeMap<IpAddr, &ObjectKey> = BTreeMap::new();
    for (key, service) in wanted {
        let mut families = service.families.clone();
        for address in service.has.iter().filter(|address| pool.contains(**address)) {
            if let Some(family) = families.iter().position(|family| *family == Family::of_address(*address))
                && service.asked.is_none_or(|asked| asked == *address)
            {
                families.remove(family);
                used.entry(*address).or_insert(key);
            }
        }
    }
    let mut plan = BTreeMap::new();
    for (key, service) in wanted {
        let kept = |family| {
            let mut own = used.iter().filter(|(_, user)| *user == key).map(|(address, _)| *address);
            own.find(|address| Family::of_address(*address) == family)
        };
        let verdict = match service.asked {
            Some(asked) if used.get(&asked) == Some(key) => Verdict::Addresses(vec![asked]),
            Some(asked) if !pool.contains(asked) => Verdict::Pending {
                reason: "AddressNotInPool",
                message: format!("the requested address {asked} is not in --load-balancer-pool"),
            },
            Some(asked) => match used.get(&asked) {
                Some(other) => Verdict::Pending {
                    reason: "AddressInUse",
                    message: format!("the requested address {asked} is in use by the Service {other}"),
                },
                None => Verdict::Addresses(vec![asked]),
            },
            None => {
                let free = |family| pool.free(family, &used.keys().copied().collect());
                let addresses: Vec<IpAddr> =
                    service.families.iter().filter_map(|family| kept(*family).or_else(|| free(*family))).collect();
                if addresses.is_empty() {
                    let message = "every address of --load-balancer-pool that the Service could have is in use";
                    Verdict::Pending { reason: "PoolExhausted", message: message.to_owned() }
                } else {
                    Verdict::Addresses(addresses)
                }
            }
        };
        if let Verdict::Addresses(addresses) = &verdict {
            used.extend(addresses.iter().map(|address| (*address, *key)));
        }
        plan.insert((*key).clone(), verdict);
    }
    plan
}

/// All share the nodes' own addresses, so no two may have the same port.
fn by_nodes(
    wanted: &[(&ObjectKey, &Balanced)],
    reserved: &[u16],
    nodes: &[NodeAddresses],
    endpoints: impl Fn(&ObjectKey) -> BTreeSet<String>,
) -> BTreeMap<ObjectKey, Verdict> {
    let mut used: BTreeMap<(String, i32), &ObjectKey> = BTreeMap::new();
    let mut plan = BTreeMap::new();
    for (key, service) in wanted {
        let conflict = service.ports.iter().find_map(|port| {
            let (protocol, number) = port;
            let other = match used.get(port) {
                Some(other) => format!("the Service {other}"),
                None if protocol == "TCP" && reserved.iter().any(|port| i32::from(*port) == *number) => {
                    "the nodes themselves".to_owned()
                }
                None => return None,
            };
            Some(format!("port {number}/{protocol} of the nodes' addresses is in use by {other}"))
        });
        let verdict = match (conflict, service.asked) {
            (Some(message), _) => Verdict::Pending { reason: "PortInUse", message },
            (None, Some(asked)) if !nodes.iter().any(|node| node.addresses.contains(&asked)) => Verdict::Pending {
                reason: "AddressNotInPool",
                message: format!(
                    "the requested address {asked} is no ready node's, and there is no --load-balancer-pool"
                ),
            },
            (None, asked) => {
                let here = service.local.then(|| endpoints(key));
                let takes = |node: &&NodeAddresses| here.as_ref().is_none_or(|here| here.contains(&node.name));
                let all = nodes.iter().filter(takes).flat_map(|node| node.addresses.iter().copied());
                let ours = all.filter(|address| service.families.contains(&Family::of_address(*address)));
                let addresses: BTreeSet<IpAddr> =
                    ours.filter(|address| asked.is_none_or(|asked| asked == *address)).collect();
                if addresses.is_empty() {
                    let message = "no ready node takes traffic for it".to_owned();
                    Verdict::Pending { reason: "NoNodes", message }
                } else {
                    Verdict::Addresses(addresses.into_iter().collect())
                }
            }
        };
        if matches!(verdict, Verdict::Addresses(_)) {
            used.extend(service.ports.iter().map(|port| (port.clone(), *key)));
        }
        plan.insert((*key).clone(), verdict);
    }
    plan
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn service(created: u32, port: i32, has: &[&str]) -> Balanced {
        Balanced {
            wanted: true,
            families: vec![Family::V4],
            ports: [("TCP".to_owned(), port)].into(),
            created: format!("{created:04}"),
            has: has.iter().map(|address| address.parse().unwrap()).collect(),
            ..Balanced::default()
        }
    }

    fn planned(pool: &str, services: &[(&str, Balanced)]) -> Vec<String> {
        let services = services.iter().map(|(name, service)| (ObjectKey::new("d", *name), service.clone())).collect();
        let pool = if pool.is_empty() { Pool::default() } else { pool.parse().unwrap() };
        let node = |name: &str, address: &str| NodeAddresses {
            name: name.to_owned(),
            addresses: vec![address.parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let nodes = [node("n1", "198.51.100.1"), node("n2", "198.51.100.2")];
        let supply = Supply { pool, reserved: vec![6443] };
        let plan = plan(&services, &supply, &nodes, |_| ["n2".to_owned()].into());
        let text = |verdict: &Verdict| match verdict {
            Verdict::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Verdict::Pending { reason, .. } => (*reason).to_owned(),
        };
        plan.values().map(text).collect()
    }

    #[test]
    fn each_has_an_address_of_the_pool_and_keeps_it() {
        let pool = "192.0.2.1-192.0.2.2";
        assert_eq!(
            planned(pool, &[("a", service(1, 80, &[])), ("b", service(2, 80, &[]))]),
            ["192.0.2.1", "192.0.2.2"]
        );
        let kept = [("a", service(1, 80, &[])), ("b", service(2, 80, &["192.0.2.1"]))];
        assert_eq!(planned(pool, &kept), ["192.0.2.2", "192.0.2.1"]);
        let three = [("a", service(3, 80, &[])), ("b", service(2, 80, &[])), ("c", service(1, 80, &[]))];
        assert_eq!(planned(pool, &three), ["PoolExhausted", "192.0.2.2", "192.0.2.1"]);
        // From another pool.
        assert_eq!(planned(pool, &[("a", service(1, 80, &["203.0.113.1"]))]), ["192.0.2.1"]);
    }

    #[test]
    fn each_family_has_an_address_where_the_pool_has_some() {
        let of = |families: &[Family], has: &[&str]| Balanced { families: families.into(), ..service(1, 80, has) };
        let pool = "192.0.2.1,fd00::1-fd00::2";
        assert_eq!(planned(pool, &[("a", of(&[Family::V4, Family::V6], &[]))]), ["192.0.2.1 fd00::1"]);
        assert_eq!(planned(pool, &[("a", of(&[Family::V6, Family::V4], &["fd00::2"]))]), ["fd00::2 192.0.2.1"]);
        // It has one of each no longer.
        assert_eq!(planned(pool, &[("a", of(&[Family::V6], &["fd00::2", "192.0.2.1"]))]), ["fd00::2"]);
        assert_eq!(planned("192.0.2.1", &[("a", of(&[Family::V6], &[]))]), ["PoolExhausted"]);
        assert_eq!(planned("192.0.2.1", &[("a", of(&[Family::V6, Family::V4], &[]))]), ["192.0.2.1"]);
        assert_eq!(planned("", &[("a", of(&[Family::V6], &[]))]), ["fd00::1"]);
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_or_nothing_is() {
        let asks =
            |address: &str, has: &[&str]| Balanced { asked: Some(address.parse().unwrap()), ..service(1, 80, has) };
        let pool = "192.0.2.1-192.0.2.2";
        assert_eq!(planned(pool, &[("a", asks("192.0.2.2", &["192.0.2.1"]))]), ["192.0.2.2"]);
        assert_eq!(planned(pool, &[("a", asks("192.0.2.3", &[]))]), ["AddressNotInPool"]);
        let taken = [("a", asks("192.0.2.1", &[])), ("b", service(2, 80, &["192.0.2.1"]))];
        assert_eq!(planned(pool, &taken), ["AddressInUse", "192.0.2.1"]);
        assert_eq!(planned("", &[("a", asks("198.51.100.2", &[]))]), ["198.51.100.2"]);
        assert_eq!(planned("", &[("a", asks("198.51.100.3", &[]))]), ["AddressNotInPool"]);
    }

    #[test]
    fn without_a_pool_the_nodes_addresses_are_shared_by_port() {
        let both = "198.51.100.1 198.51.100.2";
        assert_eq!(planned("", &[("a", service(1, 80, &[])), ("b", service(2, 443, &[]))]), [both, both]);
        assert_eq!(planned("", &[("a", service(2, 80, &[])), ("b", service(1, 80, &[]))]), ["PortInUse", both]);
        assert_eq!(planned("", &[("a", service(1, 6443, &[]))]), ["PortInUse"]);
        assert_eq!(planned("", &[("a", Balanced { local: true, ..service(1, 80, &[]) })]), ["198.51.100.2"]);
        assert_eq!(planned("", &[("a", Balanced { wanted: false, ..service(1, 80, &[]) })]), Vec::<String>::new());
    }
}
