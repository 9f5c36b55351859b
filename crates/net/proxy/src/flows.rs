//! UDP and SCTP flows that connection tracking still sends to an endpoint that is gone, or that began before the service
//! had one. TCP connections to a withdrawn endpoint are left alone: they end by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use base_sys::conntrack::{self, Flow};
use base_sys::route::{self, Route};

use crate::frontend::{Backends, Family, Frontend, FrontendAddress, Protocol};

/// Which tracked flows a change has made stale.
#[derive(Clone, Debug, Default)]
pub(crate) struct StaleFlows {
    /// Who may answer at each front end.
    answers: HashMap<(u8, FrontendAddress, u16), HashSet<IpAddr>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("list the node's addresses")]
    Addresses(#[from] route::Error),
    #[error("end stale flows")]
    Delete(#[from] conntrack::Error),
}

impl StaleFlows {
    /// From the front ends of one change.
    pub(crate) fn of(frontends: &BTreeMap<Frontend, Option<Backends>>) -> Self {
        let mut answers: HashMap<_, HashSet<_>> = HashMap::new();
        for (frontend, backends) in frontends {
            if frontend.protocol != Protocol::Tcp {
                let endpoints = backends.iter().flat_map(|backends| &backends.endpoints).map(|endpoint| endpoint.ip);
                let key = (frontend.protocol as u8, frontend.address, frontend.port);
                answers.entry(key).or_default().extend(endpoints);
            }
        }
        Self { answers }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    pub(crate) fn delete(&self) -> Result<usize, Error> {
        // A node port is on all of the node's addresses.
        let node_ports = self.answers.keys().any(|(_, address, _)| matches!(address, FrontendAddress::Node(_)));
        let addresses = if node_ports { Route::open()?.addresses()? } else { Vec::new() };
        let local: HashSet<IpAddr> = addresses.into_iter().map(|(_, address)| address).collect();
        Ok(conntrack::delete(|flow| self.is_stale(flow, &local))?)
    }

    fn is_stale(&self, flow: &Flow, local: &HashSet<IpAddr>) -> bool {
        let (address, port) = flow.destination;
        let at = |address| self.answers.get(&(flow.protocol, address, port));
        let node = || {
            let ours = local.contains(&address) || address.is_loopback();
            ours.then(|| at(FrontendAddress::Node(Family::of(address)))).flatten()
        };
        let answers = at(FrontendAddress::Ip(address)).or_else(node);
        answers.is_some_and(|answers| !answers.contains(&flow.answered_by))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::frontend::{Endpoint, Origin};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn stale(protocol: Protocol, address: FrontendAddress, endpoint: &str) -> StaleFlows {
        let frontend = Frontend { origin: Origin::Cluster, address, protocol, port: 53 };
        let endpoints = BTreeSet::from([Endpoint { ip: ip(endpoint), port: 5353 }]);
        StaleFlows::of(&BTreeMap::from([(frontend, Some(endpoints.into()))]))
    }

    fn flow(protocol: u8, to: &str, port: u16, answered_by: &str) -> Flow {
        Flow { protocol, destination: (ip(to), port), answered_by: ip(answered_by) }
    }

    #[test]
    fn flows_of_gone_endpoints_and_untranslated_ones_are_stale() {
        for (protocol, dns, alive, gone) in [
            (Protocol::Udp, "10.43.0.10", "10.42.0.2", "10.42.0.3"),
            (Protocol::Udp, "fd43::10", "fd42::2", "fd42::3"),
            (Protocol::Sctp, "10.43.0.10", "10.42.0.2", "10.42.0.3"),
        ] {
            let stale = stale(protocol, FrontendAddress::Ip(ip(dns)), alive);
            let number = protocol as u8;
            let is_stale = |flow| stale.is_stale(&flow, &HashSet::new());
            assert!(is_stale(flow(number, dns, 53, gone)) && is_stale(flow(number, dns, 53, dns)));
            assert!(!is_stale(flow(number, dns, 53, alive)));
            assert!(!is_stale(flow(6, dns, 53, gone)) && !is_stale(flow(number, dns, 54, gone)));
        }
        assert!(stale(Protocol::Tcp, FrontendAddress::Ip(ip("10.43.0.10")), "10.42.0.2").is_empty());
    }

    #[test]
    fn a_node_port_is_on_every_address_of_the_node() {
        let stale = stale(Protocol::Udp, FrontendAddress::Node(Family::V4), "10.42.0.2");
        let local = HashSet::from([ip("192.0.2.1"), ip("2001:db8::1")]);
        for (to, expected) in
            [("192.0.2.1", true), ("127.0.0.1", true), ("192.0.2.9", false), ("2001:db8::1", false), ("::1", false)]
        {
            assert_eq!(stale.is_stale(&flow(17, to, 53, "10.42.0.3"), &local), expected, "{to}");
        }
    }
}
