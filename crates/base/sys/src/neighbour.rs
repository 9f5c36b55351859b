//! Telling a network, unasked, that an address is here now: gratuitous ARP (RFC 5227), and unsolicited neighbour
//! advertisements (RFC 4861).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::checksum;
use crate::route::MacAddress;

const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYBODY: [u8; 6] = [0xff; 6];
/// All nodes of the link, and the hardware address of that group.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const IPV6_HEADER: usize = 40;
const ADVERTISEMENT: u8 = 136;
/// What is known otherwise is to be forgotten.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER: u8 = 2;

/// Says on a link of the calling thread's namespace that `address` is at `mac`. Needs CAP_NET_RAW.
pub fn announce(link: u32, mac: MacAddress, address: IpAddr) -> io::Result<()> {
    match address {
        // As a question and as an answer, since some hosts believe only the one or the other.
        IpAddr::V4(address) => [REQUEST, REPLY]
            .into_iter()
            .try_for_each(|operation| send(link, libc::ETH_P_ARP, EVERYBODY, &arp(operation, mac, address))),
        IpAddr::V6(address) => send(link, libc::ETH_P_IPV6, ALL_NODES_MAC, &advertisement(mac, address)),
    }
}

/// Sends what an Ethernet frame of this protocol holds.
fn send(link: u32, protocol: libc::c_int, to: [u8; 6], message: &[u8]) -> io::Result<()> {
    let protocol = u16::to_be(protocol as u16);
    // SAFETY: a system call without pointers; its result is checked before it is used.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened just now and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: link as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    address.sll_addr[..6].copy_from_slice(&to);
    // SAFETY: message and address are live for the whole call, and their lengths are their own.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn arp(operation: u16, mac: MacAddress, address: Ipv4Addr) -> [u8; 28] {
    let mut message = [0; 28];
    message[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
    message[2..4].copy_from_slice(&(libc::ETH_P_IP as u16).to_be_bytes());
    message[4..6].copy_from_slice(&[6, 4]);
    message[6..8].copy_from_slice(&operation.to_be_bytes());
    message[8..14].copy_from_slice(&mac.0);
    message[14..18].copy_from_slice(&address.octets());
    message[18..24].fill(if operation == REPLY { 0xff } else { 0 });
    message[24..28].copy_from_slice(&address.octets());
    message
}

/// A whole IPv6 packet from `address` itself to all nodes of the link.
fn advertisement(mac: MacAddress, address: Ipv6Addr) -> [u8; IPV6_HEADER + 32] {
    let mut body = [0; 32];
    (body[0], body[4]) = (ADVERTISEMENT, OVERRIDE);
    body[8..24].copy_from_slice(&address.octets());
    body[24..26].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    body[26..32].copy_from_slice(&mac.0);
    // The sum is also over what the IP header says.
    let pseudo =
        [&address.octets()[..], &ALL_NODES.octets(), &[0, 0, 0, 32, 0, 0, 0, libc::IPPROTO_ICMPV6 as u8], &body];
    let sum = checksum::internet(&pseudo.concat());
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = [0; IPV6_HEADER + 32];
    // Version 6, 32 bytes of ICMPv6; a hop limit of 255 proves that it comes from the link.
    packet[0] = 0x60;
    packet[4..8].copy_from_slice(&[0, 32, libc::IPPROTO_ICMPV6 as u8, 255]);
    packet[8..24].copy_from_slice(&address.octets());
    packet[24..40].copy_from_slice(&ALL_NODES.octets());
    packet[40..].copy_from_slice(&body);
    packet
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::route::{Request, Route, Veth};

    #[test]
    fn an_announcement_says_sender_and_target_alike() {
        let bytes = arp(REQUEST, MacAddress([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(
            (&bytes[8..14], &bytes[14..18], &bytes[24..28]),
            (&[2, 0, 0, 0, 0, 7][..], &[192, 0, 2, 9][..], &[192, 0, 2, 9][..])
        );
    }

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

    /// Two namespaces, a link between them, and its number in the first, where it has [`MAC`].
    fn joined() -> (NetNs, NetNs, u32) {
        let (here, there) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let peer_mac = MacAddress([2, 0, 0, 0, 0, 8]);
        let veth = Veth { name: "eth0", mac: MAC, peer_name: "eth0", peer_mac, mtu: None };
        let make = || {
            let mut route = Route::open().unwrap();
            route.apply([Request::create_veth(&veth, there.fd())]).unwrap();
            route.link("eth0").unwrap().unwrap().index
        };
        let index = here.run(make).unwrap();
        (here, there, index)
    }

    #[test]
    fn a_neighbour_learns_where_an_address_is_now() {
        let (here, there, index) = joined();
        let (own, address) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 9));
        let known = || {
            there
                .run(|| std::fs::read_to_string("/proc/thread-self/net/arp").unwrap())
                .unwrap()
                .contains("02:00:00:00:00:07")
        };
        there
            .run(|| {
                let mut route = Route::open().unwrap();
                let link = route.link("eth0").unwrap().unwrap().index;
                route.apply([Request::link_up(link), Request::add_address(link, own, 24)]).unwrap();
                // It has been told that others may say so unasked.
                crate::sysctl::write("net/ipv4/conf/eth0/arp_accept", "1").unwrap();
            })
            .unwrap();
        assert!(!known());
        here.run(|| announce(index, MAC, address.into()).unwrap()).unwrap();
        assert!(known());
        assert!(announce(u32::MAX >> 1, MAC, address.into()).is_err());
    }

    #[test]
    fn so_does_one_of_ipv6_that_knew_another_place() {
        let (here, there, index) = joined();
        let (own, address): (Ipv6Addr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::9".parse().unwrap());
        let neighbours = |arguments: &[&str]| {
            let run = || std::process::Command::new("ip").arg("-6").arg("neigh").args(arguments).output().unwrap();
            let output = there.run(run).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        there
            .run(|| {
                let mut route = Route::open().unwrap();
                let link = route.link("eth0").unwrap().unwrap().index;
                route.apply([Request::link_up(link), Request::add_address(link, own, 64)]).unwrap();
            })
            .unwrap();
        neighbours(&["add", "fd00::9", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"]);
        here.run(|| announce(index, MAC, address).unwrap()).unwrap();
        let known = neighbours(&["show", "fd00::9"]);
        assert!(known.contains("02:00:00:00:00:07"), "{known}");
    }
}
