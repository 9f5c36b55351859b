//! Which front ends sockets are balanced for, and what changes in the map. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::diff::{Changes, Slots};
use crate::frontend::{Backends, Frontend, FrontendAddress, Origin, Protocol};

/// What the map holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    slots: HashMap<Frontend, Slots>,
    elements: usize,
}

impl Held {
    /// Brings some front ends up to date (`None`: shall be gone), as far as they are for us and there is room: the map holds
    /// `most` elements. Whatever is left out is left to nftables, until it changes.
    pub(super) fn changes(&self, wanted: &BTreeMap<Frontend, Option<Backends>>, most: usize) -> Changes {
        let mut elements = self.elements;
        let mut held = BTreeMap::new();
        for (frontend, backends) in wanted {
            elements -= self.slots.get(frontend).map_or(0, size);
            let ours = backends.as_ref().filter(|backends| is_ours(frontend, backends));
            let ours = ours.filter(|backends| elements + 1 + backends.endpoints.len() <= most);
            elements += ours.map_or(0, |backends| 1 + backends.endpoints.len());
            held.insert(*frontend, ours.cloned());
        }
        Changes::of(&self.slots, &held)
    }

    /// The changes were made.
    pub(super) fn changed(&mut self, after: BTreeMap<Frontend, Option<Slots>>) {
        for (frontend, slots) in after {
            self.elements += slots.as_ref().map_or(0, size);
            let before = match slots {
                Some(slots) => self.slots.insert(frontend, slots),
                None => self.slots.remove(&frontend),
            };
            self.elements -= before.as_ref().map_or(0, size);
        }
    }
}

/// In elements: the count and the slots.
fn size(slots: &Slots) -> usize {
    1 + slots.endpoints.len()
}

/// Connections from within the cluster to an address, where any of the endpoints will do for anybody. Datagrams are not: a
/// connected socket would go on sending to an endpoint that is gone. An address that leads to itself is this node's own.
fn is_ours(frontend: &Frontend, backends: &Backends) -> bool {
    let FrontendAddress::Ip(ip) = frontend.address else { return false };
    let Backends { endpoints, affinity, sources, otherwise: _ } = backends;
    frontend.origin == Origin::Cluster
        && frontend.protocol == Protocol::Tcp
        && !endpoints.is_empty()
        && affinity.is_none()
        && sources.is_none()
        && endpoints.iter().all(|endpoint| endpoint.ip != ip)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use super::*;
    use crate::frontend::{Affinity, Endpoint, Family};

    fn ip(last: u8) -> IpAddr {
        [10, 43, 0, last].into()
    }

    fn frontend(last: u8) -> Frontend {
        let address = FrontendAddress::Ip(ip(last));
        Frontend { origin: Origin::Cluster, address, protocol: Protocol::Tcp, port: 80 }
    }

    fn backends(count: u8) -> Backends {
        let endpoint = |n| Endpoint { ip: [10, 42, 0, n].into(), port: 8080 };
        (0..count).map(endpoint).collect::<BTreeSet<_>>().into()
    }

    #[test]
    fn only_plain_front_ends_of_tcp_are_ours() {
        let (web, two) = (frontend(9), backends(2));
        assert!(is_ours(&web, &two));
        for other in [
            Frontend { origin: Origin::External, ..web },
            Frontend { protocol: Protocol::Udp, ..web },
            Frontend { protocol: Protocol::Sctp, ..web },
            Frontend { address: FrontendAddress::Node(Family::V4), ..web },
        ] {
            assert!(!is_ours(&other, &two), "{other:?}");
        }
        let itself = BTreeSet::from([Endpoint { ip: ip(9), port: 80 }]);
        for other in [
            Backends::default(),
            Backends { affinity: Some(Affinity::DEFAULT), ..two.clone() },
            Backends { sources: Some(BTreeSet::new()), ..two.clone() },
            itself.into(),
        ] {
            assert!(!is_ours(&web, &other), "{other:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_until_there_is_room() {
        let mut held = Held::default();
        let mut change = |frontend, backends| {
            let changes = held.changes(&BTreeMap::from([(frontend, backends)]), 8);
            held.changed(changes.after.clone());
            let of = |(_, slots): (_, Option<Slots>)| slots.map_or(0, |slots| slots.endpoints.len());
            changes.after.into_iter().map(of).next()
        };
        assert_eq!(change(frontend(1), Some(backends(3))), Some(3));
        assert_eq!(change(frontend(2), Some(backends(4))), None);
        assert_eq!(change(frontend(2), Some(backends(3))), Some(3));
        // It grows beyond the room and is gone, so that it is not balanced over some of its endpoints.
        assert_eq!(change(frontend(1), Some(backends(4))), Some(0));
        assert_eq!(change(frontend(1), Some(backends(3))), Some(3));
        assert_eq!(change(frontend(2), None), Some(0));
        assert_eq!(change(frontend(1), Some(backends(7))), Some(7));
        // With an affinity it is nftables' again.
        let sticky = Backends { affinity: Some(Affinity::DEFAULT), ..backends(7) };
        assert_eq!(change(frontend(1), Some(sticky)), Some(0));
        assert_eq!(held.elements, 0);
    }
}
