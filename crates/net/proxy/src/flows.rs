//! UDP flows that connection tracking still sends to an endpoint that is gone, or that began before the service had
//! one. TCP connections to a withdrawn endpoint are left alone: they end by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use base_sys::conntrack::{self, Flow};

use crate::frontend::{Backends, Frontend, FrontendAddress, Protocol};

/// Which tracked flows a change has made stale.
#[derive(Clone, Debug, Default)]
pub(crate) struct StaleFlows {
    /// Per UDP address and port, who may answer.
    answers: HashMap<(IpAddr, u16), HashSet<IpAddr>>,
}

impl StaleFlows {
    /// From the front ends of one change. A node port is known by the node's address.
    pub(crate) fn of(frontends: &BTreeMap<Frontend, Option<Backends>>, node_ip: Ipv4Addr) -> Self {
        let mut answers: HashMap<_, HashSet<_>> = HashMap::new();
        for (frontend, backends) in frontends {
            if frontend.protocol == Protocol::Udp {
                let address = match frontend.address {
                    FrontendAddress::Ip(ip) => ip,
                    FrontendAddress::Node => node_ip,
                };
                let endpoints =
                    backends.iter().flat_map(|backends| &backends.endpoints).map(|endpoint| IpAddr::V4(endpoint.ip));
                answers.entry((address.into(), frontend.port)).or_default().extend(endpoints);
            }
        }
        Self { answers }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    pub(crate) fn delete(&self) -> Result<usize, conntrack::Error> {
        conntrack::delete(|flow| self.is_stale(flow))
    }

    fn is_stale(&self, flow: &Flow) -> bool {
        flow.protocol == Protocol::Udp as u8
            && self.answers.get(&flow.destination).is_some_and(|answers| !answers.contains(&flow.answered_by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::frontend::{Endpoint, Origin};

    #[test]
    fn flows_of_gone_endpoints_and_untranslated_ones_are_stale() {
        let dns = Ipv4Addr::new(10, 43, 0, 10);
        let (alive, gone) = (Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 3));
        let address = FrontendAddress::Ip(dns);
        let frontend = Frontend { origin: Origin::Cluster, address, protocol: Protocol::Udp, port: 53 };
        let endpoints = BTreeSet::from([Endpoint { ip: alive, port: 5353 }]);
        let stale = StaleFlows::of(&BTreeMap::from([(frontend, Some(endpoints.into()))]), Ipv4Addr::LOCALHOST);
        let flow = |protocol, port, answered_by| Flow {
            protocol,
            destination: (dns.into(), port),
            answered_by: IpAddr::V4(answered_by),
        };
        assert!(stale.is_stale(&flow(17, 53, gone)) && stale.is_stale(&flow(17, 53, dns)));
        assert!(!stale.is_stale(&flow(17, 53, alive)));
        assert!(!stale.is_stale(&flow(6, 53, gone)) && !stale.is_stale(&flow(17, 54, gone)));
    }
}
