//! Telling a network, unasked, that an address is here now (gratuitous ARP, RFC 5227).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::route::MacAddress;

const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Says on a link of the calling thread's namespace that `address` is at `mac`: as a question and as an answer, since
/// some hosts believe only the one or the other. Needs CAP_NET_RAW.
pub fn announce(link: u32, mac: MacAddress, address: Ipv4Addr) -> io::Result<()> {
    let protocol = u16::to_be(libc::ETH_P_ARP as u16);
    // SAFETY: a system call without pointers; its result is checked before it is used.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was opened just now and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: link as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    };
    to.sll_addr[6..].fill(0);
    for operation in [REQUEST, REPLY] {
        let message = message(operation, mac, address);
        // SAFETY: message and address are live for the whole call, and their lengths are their own.
        let sent = unsafe {
            libc::sendto(
                fd.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn message(operation: u16, mac: MacAddress, address: Ipv4Addr) -> [u8; 28] {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::route::{Request, Route, Veth};

    #[test]
    fn an_announcement_says_sender_and_target_alike() {
        let bytes = message(REQUEST, MacAddress([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(
            (&bytes[8..14], &bytes[14..18], &bytes[24..28]),
            (&[2, 0, 0, 0, 0, 7][..], &[192, 0, 2, 9][..], &[192, 0, 2, 9][..])
        );
    }

    #[test]
    fn a_neighbour_learns_where_an_address_is_now() {
        let (here, there) = (NetNs::create().unwrap(), NetNs::create().unwrap());
        let (mac, old) = (MacAddress([2, 0, 0, 0, 0, 7]), MacAddress([2, 0, 0, 0, 0, 8]));
        let (own, address) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 9));
        let veth = Veth { name: "eth0", mac, peer_name: "eth0", peer_mac: old, mtu: None };
        let index = here
            .run(|| {
                let mut route = Route::open().unwrap();
                route.apply([Request::create_veth(&veth, there.fd())]).unwrap();
                route.link("eth0").unwrap().unwrap().index
            })
            .unwrap();
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
        here.run(|| announce(index, mac, address).unwrap()).unwrap();
        assert!(known());
        assert!(announce(u32::MAX >> 1, mac, address).is_err());
    }
}
