//! The requests: each a message and the words for it in an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::link::{MacAddress, Veth, Vxlan};
use crate::netlink::{Attributes, Message};

const VETH_INFO_PEER: u16 = 1;
/// Attributes of a VXLAN link, from `linux/if_link.h`.
const VXLAN_ID: u16 = 1;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LOCAL6: u16 = 17;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;
const NTF_SELF: u8 = 2;
/// Who made an address; Linux 5.18.
pub(super) const IFA_PROTO: u16 = 11;
/// Seconds that an address is preferred, and that it is there.
const NOT_PREFERRED: u32 = 0;
const FOR_EVER: u32 = u32::MAX;
/// `RTA_METRICS`' member for the MTU.
const RTAX_MTU: u16 = 2;
const RTNH_F_ONLINK: u32 = 4;
/// Bytes of `rtmsg`.
pub(super) const RTMSG: usize = 12;
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// One change to links, addresses, routes or neighbours.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) message: Message,
    pub(super) operation: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    Unicast,
    /// Packets to it are for this host.
    Local,
}

/// A route of the main table (the local table for [`RouteKind::Local`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    pub destination: IpAddr,
    pub prefix: u8,
    /// Taken to be reachable on the link whatever its addresses are ("onlink"). Of the destination's family.
    pub via: Option<IpAddr>,
    pub link: u32,
    /// The source address of packets sent by this host.
    pub source: Option<IpAddr>,
    /// Bytes of the largest packet; the link's own when absent.
    pub mtu: Option<u32>,
    pub kind: RouteKind,
    /// Who made it, as `ip route` shows it (`proto`).
    pub protocol: u8,
}

impl RouteSpec {
    /// A unicast route straight to a link.
    pub fn to_link(destination: impl Into<IpAddr>, prefix: u8, link: u32) -> Self {
        let (destination, protocol) = (destination.into(), libc::RTPROT_STATIC);
        Self { destination, prefix, via: None, link, source: None, mtu: None, kind: RouteKind::Unicast, protocol }
    }

    /// A unicast route of the main table, as the kernel lists it.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let header = body.get(..RTMSG)?;
        if (header[4], header[7]) != (libc::RT_TABLE_MAIN, libc::RTN_UNICAST) {
            return None;
        }
        let nowhere = match i32::from(header[0]) {
            libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let address = |kind| Attributes::after(body, RTMSG).find(kind)?.ip();
        let (link, via) = parse_way(body)?;
        let metrics = Attributes::after(body, RTMSG).find(libc::RTA_METRICS);
        Some(Self {
            destination: address(libc::RTA_DST).unwrap_or(nowhere),
            prefix: header[1],
            via,
            link,
            source: address(libc::RTA_PREFSRC),
            mtu: metrics.and_then(|metrics| metrics.nested().find(RTAX_MTU)?.u32()),
            kind: RouteKind::Unicast,
            protocol: header[5],
        })
    }

    fn message(&self, kind: u16, flags: i32) -> Message {
        let (table, route_type) = match self.kind {
            RouteKind::Unicast => (libc::RT_TABLE_MAIN, libc::RTN_UNICAST),
            RouteKind::Local => (libc::RT_TABLE_LOCAL, libc::RTN_LOCAL),
        };
        let scope = match (self.kind, self.via) {
            (RouteKind::Local, _) => libc::RT_SCOPE_HOST,
            (_, None) => libc::RT_SCOPE_LINK,
            (_, Some(_)) => libc::RT_SCOPE_UNIVERSE,
        };
        let mut header = [0; RTMSG];
        header[0] = family(self.destination);
        header[1] = self.prefix;
        header[4] = table;
        header[5] = self.protocol;
        header[6] = scope;
        header[7] = route_type;
        if self.via.is_some() {
            header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut message = Message::new(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16, &header);
        message.put_ip(libc::RTA_DST, self.destination).put_u32(libc::RTA_OIF, self.link);
        if let Some(via) = self.via {
            message.put_ip(libc::RTA_GATEWAY, via);
        }
        if let Some(source) = self.source {
            message.put_ip(libc::RTA_PREFSRC, source);
        }
        if let Some(mtu) = self.mtu {
            message.nest(libc::RTA_METRICS, |m| {
                m.put_u32(RTAX_MTU, mtu);
            });
        }
        message
    }
}

/// Link and gateway of a listed route.
pub(super) fn parse_way(body: &[u8]) -> Option<(u32, Option<IpAddr>)> {
    let attributes = || Attributes::after(body, RTMSG);
    let via = attributes().find(libc::RTA_GATEWAY).and_then(|gateway| gateway.ip());
    Some((attributes().find(libc::RTA_OIF)?.u32()?, via))
}

impl Request {
    /// Creates a veth pair whose peer is born in the namespace `peer_netns`.
    pub fn create_veth(veth: &Veth<'_>, peer_netns: BorrowedFd<'_>) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, CREATE, 0, true);
        message.put_str(libc::IFLA_IFNAME, veth.name).put(libc::IFLA_ADDRESS, &veth.mac.0);
        if let Some(mtu) = veth.mtu {
            message.put_u32(libc::IFLA_MTU, mtu);
        }
        message.nest(libc::IFLA_LINKINFO, |m| {
            m.put_str(libc::IFLA_INFO_KIND, "veth");
            m.nest(libc::IFLA_INFO_DATA, |m| {
                m.attribute(VETH_INFO_PEER, |m| {
                    // Down at first: the kernel opens no end before both are joined.
                    m.raw(&link_header(0, false));
                    m.put_str(libc::IFLA_IFNAME, veth.peer_name).put(libc::IFLA_ADDRESS, &veth.peer_mac.0);
                    m.put_u32(libc::IFLA_NET_NS_FD, peer_netns.as_raw_fd() as u32);
                    if let Some(mtu) = veth.mtu {
                        m.put_u32(libc::IFLA_MTU, mtu);
                    }
                });
            });
        });
        Self { message, operation: format!("create the veth pair {} and {}", veth.name, veth.peer_name) }
    }

    /// Creates a link that carries Ethernet frames in UDP to where its forwarding entries say, and is up.
    pub fn create_vxlan(vxlan: &Vxlan<'_>) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, CREATE, 0, true);
        message.put_str(libc::IFLA_IFNAME, vxlan.name).put(libc::IFLA_ADDRESS, &vxlan.mac.0);
        message.put_u32(libc::IFLA_MTU, vxlan.mtu);
        message.nest(libc::IFLA_LINKINFO, |m| {
            m.put_str(libc::IFLA_INFO_KIND, "vxlan");
            m.nest(libc::IFLA_INFO_DATA, |m| {
                m.put_u32(VXLAN_ID, vxlan.id);
                m.put_ip(if vxlan.local.is_ipv4() { VXLAN_LOCAL } else { VXLAN_LOCAL6 }, vxlan.local);
                m.put(VXLAN_PORT, &vxlan.port.to_be_bytes());
                // Nothing is learnt from packets: who is where comes from the forwarding entries alone.
                m.put_u8(VXLAN_LEARNING, 0);
            });
        });
        Self { message, operation: format!("create the VXLAN link {}", vxlan.name) }
    }

    /// Creates a bridge that is up.
    pub fn create_bridge(name: &str) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, CREATE, 0, true);
        message.put_str(libc::IFLA_IFNAME, name);
        message.nest(libc::IFLA_LINKINFO, |m| {
            m.put_str(libc::IFLA_INFO_KIND, "bridge");
        });
        Self { message, operation: format!("create the bridge {name}") }
    }

    /// Makes a link a port of the bridge `master`.
    pub fn set_master(index: u32, master: u32) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, 0, index, false);
        message.put_u32(libc::IFLA_MASTER, master);
        Self { message, operation: format!("make link {index} a port of bridge {master}") }
    }

    /// Says to which host a VXLAN link sends the frames for a hardware address.
    pub fn set_forwarding(index: u32, mac: MacAddress, host: IpAddr) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | REPLACE) as u16;
        let message = forwarding_message(libc::RTM_NEWNEIGH, flags, index, mac, host);
        Self { message, operation: format!("forward {mac:?} of link {index} to {host}") }
    }

    pub fn delete_forwarding(index: u32, mac: MacAddress, host: IpAddr) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let message = forwarding_message(libc::RTM_DELNEIGH, flags, index, mac, host);
        Self { message, operation: format!("stop forwarding {mac:?} of link {index} to {host}") }
    }

    pub fn link_up(index: u32) -> Self {
        let message = link_message(libc::RTM_NEWLINK, 0, index, true);
        Self { message, operation: format!("set link {index} up") }
    }

    /// Gives a link its alias; the kernel ignores one given at creation.
    pub fn set_alias(index: u32, alias: &str) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, 0, index, true);
        message.put_str(libc::IFLA_IFALIAS, alias);
        Self { message, operation: format!("set the alias of link {index}") }
    }

    pub fn rename_link(index: u32, name: &str) -> Self {
        let mut message = link_message(libc::RTM_NEWLINK, 0, index, false);
        message.put_str(libc::IFLA_IFNAME, name);
        Self { message, operation: format!("rename link {index} to {name}") }
    }

    /// Deletes a link; of a veth pair, both ends.
    pub fn delete_link(name: &str) -> Self {
        let mut message = link_message(libc::RTM_DELLINK, 0, 0, false);
        message.put_str(libc::IFLA_IFNAME, name);
        Self { message, operation: format!("delete link {name}") }
    }

    /// Usable at once: nobody is asked whether another host has it.
    pub fn add_address(index: u32, address: impl Into<IpAddr>, prefix: u8) -> Self {
        let address = address.into();
        let message = address_message(libc::RTM_NEWADDR, REPLACE, index, address, prefix);
        Self { message, operation: format!("add address {address}/{prefix} to link {index}") }
    }

    /// As [`Request::add_address`], with the number of who made it, as `ip address` shows it (`proto`). Of IPv6 it is no
    /// packet's source unless somebody asks for it ("deprecated"); of IPv4 a link's first address comes before it.
    pub fn add_marked_address(index: u32, address: impl Into<IpAddr>, prefix: u8, protocol: u8) -> Self {
        let address = address.into();
        let mut message = address_message(libc::RTM_NEWADDR, REPLACE, index, address, prefix);
        message.put_u8(IFA_PROTO, protocol);
        if address.is_ipv6() {
            let lifetimes = [NOT_PREFERRED, FOR_EVER, 0, 0].map(u32::to_ne_bytes).concat();
            message.put(libc::IFA_CACHEINFO, &lifetimes);
        }
        Self { message, operation: format!("add address {address}/{prefix} to link {index}") }
    }

    pub fn delete_address(index: u32, address: impl Into<IpAddr>, prefix: u8) -> Self {
        let address = address.into();
        let message = address_message(libc::RTM_DELADDR, 0, index, address, prefix);
        Self { message, operation: format!("delete address {address}/{prefix} of link {index}") }
    }

    /// Adds the route, or replaces the one to the same destination.
    pub fn set_route(spec: &RouteSpec) -> Self {
        let operation = format!("route {}/{} to link {}", spec.destination, spec.prefix, spec.link);
        Self { message: spec.message(libc::RTM_NEWROUTE, REPLACE), operation }
    }

    pub fn delete_route(spec: &RouteSpec) -> Self {
        let operation = format!("delete the route {}/{} to link {}", spec.destination, spec.prefix, spec.link);
        Self { message: spec.message(libc::RTM_DELROUTE, 0), operation }
    }

    /// Says for good which hardware address answers for `address` on a link, so that nobody has to ask.
    pub fn set_neighbour(index: u32, address: impl Into<IpAddr>, mac: MacAddress) -> Self {
        let address = address.into();
        let mut header = [0; 12];
        header[0] = family(address);
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | REPLACE) as u16;
        let mut message = Message::new(libc::RTM_NEWNEIGH, flags, &header);
        message.put_ip(libc::NDA_DST, address).put(libc::NDA_LLADDR, &mac.0);
        Self { message, operation: format!("set neighbour {address} of link {index}") }
    }

    pub fn delete_neighbour(index: u32, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        let mut header = [0; 12];
        header[0] = family(address);
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(libc::RTM_DELNEIGH, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16, &header);
        message.put_ip(libc::NDA_DST, address);
        Self { message, operation: format!("delete neighbour {address} of link {index}") }
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn forwarding_message(kind: u16, flags: u16, index: u32, mac: MacAddress, host: IpAddr) -> Message {
    let mut header = [0; 12];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    header[10] = NTF_SELF;
    let mut message = Message::new(kind, flags, &header);
    message.put(libc::NDA_LLADDR, &mac.0).put_ip(libc::NDA_DST, host);
    message
}

fn address_message(kind: u16, flags: i32, index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut header = [0; 8];
    header[0] = family(address);
    header[1] = prefix;
    if address.is_ipv6() {
        header[2] = libc::IFA_F_NODAD as u8;
    }
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let mut message = Message::new(kind, flags, &header);
    message.put_ip(libc::IFA_LOCAL, address).put_ip(libc::IFA_ADDRESS, address);
    message
}

fn link_message(kind: u16, flags: i32, index: u32, up: bool) -> Message {
    Message::new(kind, (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16, &link_header(index, up))
}

/// `ifinfomsg`; when not `up`, the flag is left as it is.
fn link_header(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        let flag = (libc::IFF_UP as u32).to_ne_bytes();
        header[8..12].copy_from_slice(&flag);
        header[12..16].copy_from_slice(&flag);
    }
    header
}
