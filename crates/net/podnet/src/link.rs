//! The links and routes of one pod: a few netlink messages, sent in batches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base_sys::netns::{self, NetNs};
use base_sys::route::{self, MacAddress, Request, Route, RouteSpec, Veth, host_prefix};

/// The pod's gateways: the same in every pod, on no interface anywhere.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Every host end's hardware address. They share it: each is alone with its pod.
const HOST_MAC: MacAddress = MacAddress([0xee; 6]);
const POD_INTERFACE: &str = "eth0";
const LOOPBACK: u32 = 1;
const ENODEV: i32 = 19;
const EEXIST: i32 = 17;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("set up the pod's links")]
    Route(#[from] route::Error),
    #[error("enter the pod's network namespace")]
    NetNs(#[from] netns::Error),
    #[error("link {0} vanished while it was set up")]
    Vanished(String),
}

/// What to build for one pod.
#[derive(Debug)]
pub(crate) struct PodLink<'a> {
    pub(crate) name: &'a str,
    pub(crate) sandbox: &'a str,
    /// Each with the node's address that the node's own packets to it have; the primary one first.
    pub(crate) addresses: Vec<(IpAddr, IpAddr)>,
    pub(crate) mtu: Option<u32>,
}

/// The host end's name: the primary address in hexadecimal after the prefix, its last eight digits.
pub(crate) fn name(prefix: &str, addresses: &[IpAddr]) -> String {
    format!("{prefix}{:08x}", u32::from_be_bytes(tail(addresses)))
}

/// What tells a node's pods apart: the last four bytes of the primary address.
fn tail(addresses: &[IpAddr]) -> [u8; 4] {
    match addresses.first() {
        Some(IpAddr::V4(four)) => four.octets(),
        Some(IpAddr::V6(six)) => (u128::from(*six) as u32).to_be_bytes(),
        None => [0; 4],
    }
}

/// Where a pod's packets to an address of this family go.
fn gateway(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY.into() } else { GATEWAY6.into() }
}

fn everywhere(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

impl PodLink<'_> {
    /// Whether the pod is connected as [`PodLink::create`] would have it.
    pub(crate) fn exists(&self, host: &mut Route, netns: &NetNs) -> Result<bool, Error> {
        if host.link(self.name)?.is_none() {
            return Ok(false);
        }
        let there = netns.run(|| Route::open()?.addresses())??;
        Ok(self.addresses.iter().all(|(address, _)| there.iter().any(|(_, other)| other == address)))
    }

    fn mac(&self) -> MacAddress {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(|(address, _)| *address).collect();
        let [a, b, c, d] = tail(&addresses);
        MacAddress([0x0a, 0x58, a, b, c, d])
    }

    /// Connects the pod. On failure nothing of it stays.
    pub(crate) fn create(&self, host: &mut Route, netns: &NetNs) -> Result<(), Error> {
        let veth =
            Veth { name: self.name, mac: HOST_MAC, peer_name: POD_INTERFACE, peer_mac: self.mac(), mtu: self.mtu };
        match host.apply([Request::create_veth(&veth, netns.fd())]) {
            // A leftover of this name: its pod is gone, or this sandbox's set-up was cut short.
            Err(error) if error.errno() == Some(EEXIST) => {
                delete(host, self.name)?;
                host.apply([Request::create_veth(&veth, netns.fd())])?;
            }
            result => result?,
        }
        let result = self.configure(host, netns);
        if result.is_err() {
            delete(host, self.name)?;
        }
        result
    }

    fn configure(&self, host: &mut Route, netns: &NetNs) -> Result<(), Error> {
        netns.run(|| self.configure_pod(&mut Route::open()?))??;
        // After the pod's end is up, on purpose: being asked (since Linux 6.8) makes the kernel start the host end's
        // queue at once instead of some time after the carrier came; until then it drops what the host sends.
        let link = host.link(self.name)?.ok_or_else(|| Error::Vanished(self.name.into()))?;
        let mut requests = vec![Request::set_alias(link.index, self.sandbox)];
        for (address, node_ip) in &self.addresses {
            let to_pod = RouteSpec::to_link(*address, host_prefix(*address), link.index);
            requests.push(Request::set_neighbour(link.index, *address, self.mac()));
            requests.push(Request::set_route(&RouteSpec { source: Some(*node_ip), ..to_pod }));
        }
        Ok(host.apply(requests)?)
    }

    fn configure_pod(&self, pod: &mut Route) -> Result<(), Error> {
        let link = pod.link(POD_INTERFACE)?.ok_or_else(|| Error::Vanished(POD_INTERFACE.into()))?;
        let mut requests = vec![Request::link_up(LOOPBACK), Request::link_up(link.index)];
        for (address, _) in &self.addresses {
            let (gateway, default) = (gateway(*address), RouteSpec::to_link(everywhere(*address), 0, link.index));
            requests.extend([
                Request::add_address(link.index, *address, host_prefix(*address)),
                Request::set_neighbour(link.index, gateway, HOST_MAC),
                Request::set_route(&RouteSpec { via: Some(gateway), ..default }),
            ]);
        }
        Ok(pod.apply(requests)?)
    }
}

/// Deletes a host end and with it the pair; gone already is fine, as when the pod's namespace took it along.
pub(crate) fn delete(host: &mut Route, name: &str) -> Result<(), Error> {
    match host.apply([Request::delete_link(name)]) {
        Err(error) if error.errno() == Some(ENODEV) => Ok(()),
        result => Ok(result?),
    }
}
