//! Links: what the kernel says of one, and how a veth pair is described.

use std::fmt;
use std::net::IpAddr;

use crate::netlink::Attributes;

pub(super) const IFINFOMSG: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A link of the namespace that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<MacAddress>,
    pub mtu: u32,
    pub up: bool,
    /// Free text kept by the kernel; ours names the link's owner.
    pub alias: Option<String>,
}

impl Link {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
        let flags = u32::from_ne_bytes(body.get(8..12)?.try_into().ok()?);
        let attributes = Attributes::after(body, IFINFOMSG);
        Some(Self {
            index,
            name: attributes.find(libc::IFLA_IFNAME)?.str()?.to_owned(),
            mac: attributes.find(libc::IFLA_ADDRESS).and_then(|a| a.payload.try_into().ok()).map(MacAddress),
            mtu: attributes.find(libc::IFLA_MTU).and_then(|a| a.u32()).unwrap_or_default(),
            up: flags & libc::IFF_UP as u32 != 0,
            alias: attributes.find(libc::IFLA_IFALIAS).and_then(|a| a.str()).map(str::to_owned),
        })
    }
}

/// A veth pair: one end here and up, its peer in another namespace and still down.
#[derive(Clone, Debug)]
pub struct Veth<'a> {
    pub name: &'a str,
    pub mac: MacAddress,
    pub peer_name: &'a str,
    pub peer_mac: MacAddress,
    /// The kernel's default (1500) when absent.
    pub mtu: Option<u32>,
}

/// A link that carries Ethernet frames in UDP between hosts.
#[derive(Clone, Debug)]
pub struct Vxlan<'a> {
    pub name: &'a str,
    pub mac: MacAddress,
    /// The network's number, 24 bits.
    pub id: u32,
    /// UDP, the same on all hosts.
    pub port: u16,
    /// This host's address, that packets leave with.
    pub local: IpAddr,
    pub mtu: u32,
}
