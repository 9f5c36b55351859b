//! What the data plane owns and which addresses are whose, per family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base_sys::route::{Cidr, IpCidr};

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
    /// The families that the cluster has, each with its addresses.
    pub v4: Option<Network<Ipv4Addr>>,
    pub v6: Option<Network<Ipv6Addr>>,
}

/// A cluster's addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<A> {
    /// All pods of all nodes.
    pub cluster_cidr: Cidr<A>,
    pub service_cidr: Cidr<A>,
    /// The source address of a pod that reaches itself through a Service.
    pub node_ip: A,
}

/// A [`Network`] of either family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnyNetwork {
    pub(crate) family: Family,
    pub(crate) cluster: IpCidr,
    pub(crate) service: IpCidr,
    pub(crate) node_ip: IpAddr,
}

impl ProxyConfig {
    pub(crate) fn networks(&self) -> Vec<AnyNetwork> {
        let v4 = self.v4.map(|network| AnyNetwork {
            family: Family::V4,
            cluster: network.cluster_cidr.into(),
            service: network.service_cidr.into(),
            node_ip: network.node_ip.into(),
        });
        let v6 = self.v6.map(|network| AnyNetwork {
            family: Family::V6,
            cluster: network.cluster_cidr.into(),
            service: network.service_cidr.into(),
            node_ip: network.node_ip.into(),
        });
        // In this order: a packet of the first family passes no rule of the other.
        v4.into_iter().chain(v6).collect()
    }
}
