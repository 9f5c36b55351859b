//! What the data plane owns and which addresses are whose, per family.

use std::net::IpAddr;

use base_sys::route::IpCidr;

use crate::frontend::Family;

/// What the data plane owns and where it runs.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The nftables table (family inet): one per data directory, all of it ours.
    pub table: String,
    pub node_name: String,
    /// The names of this node's pod links start with it.
    pub pod_interface_prefix: String,
    /// The link of the tunnel to other nodes.
    pub tunnel: String,
    /// One per family.
    pub networks: Vec<Network>,
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
