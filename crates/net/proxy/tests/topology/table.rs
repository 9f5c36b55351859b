//! Front ends and their endpoints for the table's tests, of one family at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net_proxy::{Affinity, Backends, Endpoint, Family, Frontend, FrontendAddress, Kernel, Origin, Protocol};

use super::{Peer, config, node, on_a_node, outsider, service, uplink};

pub type Table = BTreeMap<Frontend, Backends>;

/// Runs the story once per family, each time on a fresh node.
pub fn on_nodes(story: impl Fn(On) + Sync) {
    for family in Family::ALL {
        on_a_node(|| story(On(family)));
    }
}

#[derive(Clone, Copy)]
pub struct On(pub Family);

impl On {
    /// The service address of most tests.
    pub fn web(self) -> IpAddr {
        service(self.0, 9)
    }

    pub fn node(self) -> IpAddr {
        node(self.0)
    }

    pub fn uplink(self) -> IpAddr {
        uplink(self.0)
    }

    pub fn outsider(self) -> IpAddr {
        outsider(self.0)
    }

    pub fn of(self, peer: &Peer) -> IpAddr {
        peer.ip(self.0)
    }

    pub fn cluster_ip(self, protocol: Protocol, port: u16) -> Frontend {
        self.at(Origin::Cluster, self.web(), protocol, port)
    }

    pub fn at(self, origin: Origin, ip: IpAddr, protocol: Protocol, port: u16) -> Frontend {
        Frontend { origin, address: FrontendAddress::Ip(ip), protocol, port }
    }

    pub fn node_port(self, origin: Origin, port: u16) -> Frontend {
        Frontend { origin, address: FrontendAddress::Node(self.0), protocol: Protocol::Tcp, port }
    }

    /// The pods' port 8080.
    pub fn endpoints(self, pods: &[&Peer]) -> Backends {
        self.endpoints_at(pods, 8080)
    }

    pub fn endpoints_at(self, pods: &[&Peer], port: u16) -> Backends {
        pods.iter().map(|pod| Endpoint { ip: self.of(pod), port }).collect::<BTreeSet<_>>().into()
    }

    /// As [`On::endpoints`], each client with its own for a while.
    pub fn sticky(self, pods: &[&Peer]) -> Backends {
        Backends { affinity: Some(Affinity::DEFAULT), ..self.endpoints(pods) }
    }
}

pub fn loaded(table: &Table) -> Kernel {
    let mut kernel = Kernel::open(config()).unwrap();
    kernel.load(table, &hairpins(table)).unwrap();
    kernel
}

pub fn hairpins(table: &Table) -> BTreeSet<IpAddr> {
    table.values().flat_map(|backends| &backends.endpoints).map(|endpoint| endpoint.ip).collect()
}

pub fn change(kernel: &mut Kernel, frontend: Frontend, backends: Backends) {
    kernel.apply(&BTreeMap::from([(frontend, Some(backends))]), Vec::new(), Vec::new()).unwrap();
}

pub fn serving_pods<const N: usize>() -> [Peer; N] {
    std::array::from_fn(|index| {
        let pod = Peer::pod(u8::try_from(index).unwrap() + 2);
        pod.serve(8080);
        pod
    })
}
