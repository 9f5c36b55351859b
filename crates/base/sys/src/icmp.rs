//! ICMP echo of both families: asking a host's kernel whether it is there, without any program of ours on it.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::{checksum, sockopt};

/// Of the ICMP header.
const HEADER: usize = 8;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V4,
    V6,
}

impl Version {
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }

    /// Of an IP header without options, as echoes have.
    fn ip_header(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Bytes of the smallest packet with an echo.
    pub fn least(self) -> usize {
        self.ip_header() + HEADER
    }
}

/// An answer to [`request`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub id: u16,
    pub sequence: u16,
}

/// A non-blocking socket for echoes in the calling thread's network namespace. It sends and receives datagrams, hence
/// its type; the ports of its addresses mean nothing. Never fragments. Needs CAP_NET_RAW.
pub fn open(version: Version) -> io::Result<UdpSocket> {
    let (family, protocol) = match version {
        Version::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Version::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
    sockopt::never_fragment(fd.as_fd(), version == Version::V4)?;
    Ok(UdpSocket::from(fd))
}

/// An echo request that makes an IP packet of `packet` bytes, [`Version::least`] at least.
pub fn request(version: Version, id: u16, sequence: u16, packet: usize) -> Vec<u8> {
    let mut message = vec![0; packet.saturating_sub(version.ip_header()).max(HEADER)];
    message[0] = version.request();
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    // The sum of ICMPv6 has addresses in it: the kernel writes it.
    let sum = checksum::internet(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Reads what the socket received: a whole packet of IPv4, or what an IPv6 packet holds. `None` when it is no echo reply.
pub fn parse(version: Version, packet: &[u8]) -> Option<Reply> {
    let header = match version {
        Version::V4 => usize::from(packet.first()? & 0x0f) * 4,
        Version::V6 => 0,
    };
    let message = packet.get(header..).filter(|message| message.len() >= HEADER && message[0] == version.reply())?;
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    Some(Reply { id: word(4), sequence: word(6) })
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
        netns.run(|| Route::open().unwrap().apply([Request::link_up(1)]).unwrap()).unwrap();
        for (version, address, packet) in [(Version::V4, "127.0.0.1", 1400), (Version::V6, "::1", 1360)] {
            let ask = || {
                let socket = open(version).unwrap();
                socket.set_nonblocking(false).unwrap();
                socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                socket.send_to(&request(version, 7, 9, 1400), (address, 0)).unwrap();
                let mut buffer = [0; 2048];
                loop {
                    // The request itself arrives as well.
                    let length = socket.recv(&mut buffer).unwrap();
                    if let Some(reply) = parse(version, &buffer[..length]) {
                        assert_eq!(length, packet, "IPv6 sockets receive no header");
                        break reply;
                    }
                }
            };
            assert_eq!(netns.run(ask).unwrap(), Reply { id: 7, sequence: 9 }, "{address}");
        }
    }

    #[test]
    fn rubbish_is_no_reply() {
        for packet in [&[][..], &[0x45], &[0x4f; 24], &[0x45; 28], &[0xff; 60], &[129; 7]] {
            assert_eq!((parse(Version::V4, packet), parse(Version::V6, packet)), (None, None));
        }
    }
}
