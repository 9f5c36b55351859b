//! The links and routes of one pod: a few netlink messages, sent in batches.

use std::net::Ipv4Addr;

use base_sys::netns::{self, NetNs};
use base_sys::route::{self, MacAddress, Request, Route, RouteSpec, Veth};

/// The pod's gateway: the same in every pod, on no interface anywhere.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
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
    pub(crate) address: Ipv4Addr,
    pub(crate) node_ip: Ipv4Addr,
    pub(crate) mtu: Option<u32>,
}

/// The host end's name: the address in hexadecimal after the prefix.
pub(crate) fn name(prefix: &str, address: Ipv4Addr) -> String {
    format!("{prefix}{:08x}", u32::from(address))
}

impl PodLink<'_> {
    /// Whether the pod is connected as [`PodLink::create`] would have it.
    pub(crate) fn exists(&self, host: &mut Route, netns: &NetNs) -> Result<bool, Error> {
        if host.link(self.name)?.is_none() {
            return Ok(false);
        }
        let addresses = netns.run(|| Route::open()?.addresses())??;
        Ok(addresses.iter().any(|(_, address)| *address == self.address))
    }

    /// Connects the pod. On failure nothing of it stays.
    pub(crate) fn create(&self, host: &mut Route, netns: &NetNs) -> Result<(), Error> {
        let veth = Veth {
            name: self.name,
            mac: HOST_MAC,
            peer_name: POD_INTERFACE,
            peer_mac: pod_mac(self.address),
            mtu: self.mtu,
        };
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
        let route = RouteSpec { source: Some(self.node_ip), ..RouteSpec::to_link(self.address, 32, link.index) };
        host.apply([
            Request::set_alias(link.index, self.sandbox),
            Request::set_neighbour(link.index, self.address, pod_mac(self.address)),
            Request::set_route(&route),
        ])?;
        Ok(())
    }

    fn configure_pod(&self, pod: &mut Route) -> Result<(), Error> {
        let link = pod.link(POD_INTERFACE)?.ok_or_else(|| Error::Vanished(POD_INTERFACE.into()))?;
        let default = RouteSpec { via: Some(GATEWAY), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, link.index) };
        pod.apply([
            Request::link_up(LOOPBACK),
            Request::link_up(link.index),
            Request::add_address(link.index, self.address, 32),
            Request::set_neighbour(link.index, GATEWAY, HOST_MAC),
            Request::set_route(&default),
        ])?;
        Ok(())
    }
}

/// Deletes a host end and with it the pair; gone already is fine, as when the pod's namespace took it along.
pub(crate) fn delete(host: &mut Route, name: &str) -> Result<(), Error> {
    match host.apply([Request::delete_link(name)]) {
        Err(error) if error.errno() == Some(ENODEV) => Ok(()),
        result => Ok(result?),
    }
}

fn pod_mac(address: Ipv4Addr) -> MacAddress {
    let [a, b, c, d] = address.octets();
    MacAddress([0x0a, 0x58, a, b, c, d])
}
