//! The addresses of one family: a node has one or two of these, the preferred family's first.

use std::net::IpAddr;

use base_sys::route::IpCidr;

/// All of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// All pods of all nodes.
    pub cluster_cidr: IpCidr,
    pub service_cidr: IpCidr,
    /// This node's share of the cluster's pod addresses.
    pub node_cidr: IpCidr,
    /// The source address of this node's own packets to its pods and to services. Must be an address of this host.
    pub node_ip: IpAddr,
}
