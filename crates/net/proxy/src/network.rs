//! What the data plane owns and which addresses are whose, per family.

use std::net::IpAddr;

use base_sys::route::IpCidr;

use crate::frontend::Family;
use crate::sockets::SocketConfig;

/// What the data plane owns and where it runs.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The nftables table (family inet): one per data directory, all of it ours.
    pub table: String,
    pub node_name: String,
    pub links: Links,
    /// One per family.
    pub networks: Vec<Network>,
    /// Absent: every connection to a service is translated.
    pub sockets: Option<SocketConfig>,
}

/// Who connects the pods, which tells what leads to a pod of this node and what leaves it.
#[derive(Clone, Debug)]
pub enum Links {
    /// Sampan's pod network.
    Ours {
        /// The names of this node's pod links start with it.
        prefix: String,
        tunnel: Tunnel,
    },
    /// Somebody else, by links that may have any name, who also masquerades what pods send to the outside: pods of this node
    /// are known by their being endpoints of it.
    Foreign,
}

/// The tunnel to other nodes.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub link: String,
    /// This node's own in it, one per family.
    pub addresses: Vec<IpAddr>,
}

impl Tunnel {
    pub(crate) fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }
}

/// A cluster's addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// All pods of all nodes.
    pub cluster_cidr: IpCidr,
    pub service_cidr: IpCidr,
    /// The source address of a pod that reaches itself through a Service.
    pub node_ip: IpAddr,
}

impl Network {
    pub(crate) fn family(&self) -> Family {
        Family::of(self.node_ip)
    }
}
