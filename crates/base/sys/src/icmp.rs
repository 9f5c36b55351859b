//! ICMP echo: asking a host's kernel whether it is there, without any program of ours on it.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Of the ICMP header.
const HEADER: usize = 8;
/// Of an IPv4 header without options, as echoes have.
const IP_HEADER: usize = 20;
/// Not in the libc crate for every target: send with "don't fragment", whatever is believed of the path.
const IP_PMTUDISC_PROBE: libc::c_int = 3;

/// An answer to [`request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub from: Ipv4Addr,
    pub id: u16,
    pub sequence: u16,
}

/// A non-blocking socket for echoes in the calling thread's network namespace. It sends and receives datagrams, hence
/// its type; the ports of its addresses mean nothing. Never fragments. Needs CAP_NET_RAW.
pub fn open() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    let probe = IP_PMTUDISC_PROBE;
    // SAFETY: the option's value is one int; the pointer is to a live local of exactly that size, and the descriptor is
    // open for the whole call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const probe).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(UdpSocket::from(fd))
}

/// An echo request that makes an IPv4 packet of `packet` bytes, 28 at least.
pub fn request(id: u16, sequence: u16, packet: usize) -> Vec<u8> {
    let mut message = vec![0; packet.saturating_sub(IP_HEADER).max(HEADER)];
    message[0] = ECHO_REQUEST;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Reads what the socket received: an IPv4 packet. `None` when it is no echo reply.
pub fn parse(packet: &[u8]) -> Option<Reply> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let from = <[u8; 4]>::try_from(packet.get(12..16)?).ok()?;
    let message = packet.get(header..).filter(|message| message.len() >= HEADER && message[0] == ECHO_REPLY)?;
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    Some(Reply { from: from.into(), id: word(4), sequence: word(6) })
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.fold(0, |sum, word| sum.wrapping_add(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::route::{Request, Route};

    #[test]
    fn a_kernel_answers_its_own_address() {
        let netns = NetNs::create().unwrap();
        let reply = netns
            .run(|| {
                Route::open().unwrap().apply([Request::link_up(1)]).unwrap();
                let socket = open().unwrap();
                socket.set_nonblocking(false).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                socket.send_to(&request(7, 9, 1400), ("127.0.0.1", 0)).unwrap();
                let mut buffer = [0; 2048];
                loop {
                    // The request itself arrives as well.
                    let length = socket.recv(&mut buffer).unwrap();
                    if let Some(reply) = parse(&buffer[..length]) {
                        assert_eq!(length, 1400);
                        break reply;
                    }
                }
            })
            .unwrap();
        assert_eq!(reply, Reply { from: Ipv4Addr::LOCALHOST, id: 7, sequence: 9 });
    }

    #[test]
    fn rubbish_is_no_reply() {
        for packet in [&[][..], &[0x45], &[0x4f; 24], &[0x45; 28], &[0xff; 60]] {
            assert_eq!(parse(packet), None);
        }
    }
}
