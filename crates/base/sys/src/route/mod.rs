//! Links, addresses, routes and neighbours over rtnetlink: the part of `ip` that a pod network needs.
//!
//! Requests are values; [`Route::apply`] sends any number of them in one system call.

mod cidr;
mod link;
mod request;

pub use cidr::{Cidr, InvalidCidr, IpCidr, Ipv4Cidr, Ipv6Cidr};
pub use link::{Link, MacAddress, Veth, Vxlan};
pub use request::{Request, RouteKind, RouteSpec};

use std::io;
use std::net::IpAddr;

use crate::netlink::{self, Attributes, Message, Protocol, Socket};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("talk to rtnetlink")]
    Netlink(#[from] netlink::Error),
    #[error("{operation}")]
    Rejected {
        operation: String,
        #[source]
        source: io::Error,
    },
    #[error("{operation}: the kernel did not answer")]
    NoAnswer { operation: String },
}

impl Error {
    /// The kernel's error number, when it refused a request.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Rejected { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// An rtnetlink socket, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Sends the requests in one datagram. The kernel tries all, in order; the first refusal is returned.
    pub fn apply(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<(), Error> {
        let (mut messages, operations): (Vec<Message>, Vec<String>) =
            requests.into_iter().map(|request| (request.message, request.operation)).unzip();
        if messages.is_empty() {
            return Ok(());
        }
        let first = self.socket.send(&mut messages)?;
        let mut answered = vec![None; operations.len()];
        for reply in self.socket.replies()? {
            if let Some(slot) = answered.get_mut(reply.sequence.wrapping_sub(first) as usize) {
                *slot = Some(reply.errno);
            }
        }
        for (operation, errno) in operations.into_iter().zip(answered) {
            match errno {
                Some(0) => {}
                Some(errno) => {
                    return Err(Error::Rejected { operation, source: io::Error::from_raw_os_error(errno) });
                }
                None => return Err(Error::NoAnswer { operation }),
            }
        }
        Ok(())
    }

    /// All links whose names start with `prefix`.
    pub fn links(&mut self, prefix: &str) -> Result<Vec<Link>, Error> {
        let mut found = Vec::new();
        loop {
            let request = Message::new(libc::RTM_GETLINK, 0, &[0; link::IFINFOMSG]);
            let result = self.socket.dump(request, |kind, body| {
                if kind == libc::RTM_NEWLINK {
                    found.extend(Link::parse(body).filter(|link| link.name.starts_with(prefix)));
                }
            });
            match result {
                // Links changed meanwhile: what was read may miss some.
                Err(netlink::Error::Interrupted) => found.clear(),
                other => return other.map(|()| found).map_err(Error::from),
            }
        }
    }

    /// The link of this name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut request = Message::new(libc::RTM_GETLINK, libc::NLM_F_REQUEST as u16, &[0; link::IFINFOMSG]);
        request.put_str(libc::IFLA_IFNAME, name);
        self.socket.send(std::slice::from_mut(&mut request))?;
        let mut found = None;
        let replies = self.socket.answers(|_, body| found = Link::parse(body))?;
        match replies.first().map(|reply| reply.errno) {
            None | Some(0) => Ok(found),
            Some(libc::ENODEV) => Ok(None),
            Some(errno) => {
                let operation = format!("look up link {name}");
                Err(Error::Rejected { operation, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    /// The unicast routes of both families of the main table that carry this protocol number.
    pub fn routes(&mut self, protocol: u8) -> Result<Vec<RouteSpec>, Error> {
        let mut found = Vec::new();
        loop {
            let both = [0; request::RTMSG];
            let result = self.socket.dump(Message::new(libc::RTM_GETROUTE, 0, &both), |kind, body| {
                if kind == libc::RTM_NEWROUTE {
                    found.extend(RouteSpec::parse(body).filter(|route| route.protocol == protocol));
                }
            });
            match result {
                Err(netlink::Error::Interrupted) => found.clear(),
                other => return other.map(|()| found).map_err(Error::from),
            }
        }
    }

    /// The link and the gateway by which this host would send to `address`.
    pub fn way_to(&mut self, address: impl Into<IpAddr>) -> Result<Option<(u32, Option<IpAddr>)>, Error> {
        let address = address.into();
        let mut header = [0; request::RTMSG];
        header[0] = request::family(address);
        header[1] = host_prefix(address);
        let mut message = Message::new(libc::RTM_GETROUTE, libc::NLM_F_REQUEST as u16, &header);
        message.put_ip(libc::RTA_DST, address);
        self.socket.send(std::slice::from_mut(&mut message))?;
        let mut found = None;
        let replies = self.socket.answers(|_, body| found = request::parse_way(body))?;
        match replies.first().map(|reply| reply.errno) {
            None | Some(0) => Ok(found),
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => Ok(None),
            Some(errno) => {
                let operation = format!("look up the route to {address}");
                Err(Error::Rejected { operation, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    /// The addresses assigned to links of this namespace, with their link's index.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr)>, Error> {
        self.addresses_where(|_| true)
    }

    /// Those that were added with this number of who made them.
    pub fn addresses_by(&mut self, protocol: u8) -> Result<Vec<(u32, IpAddr)>, Error> {
        let by = |attributes: Attributes<'_>| {
            attributes.find(request::IFA_PROTO).is_some_and(|found| found.payload == [protocol])
        };
        self.addresses_where(by)
    }

    fn addresses_where(&mut self, wanted: impl Fn(Attributes<'_>) -> bool) -> Result<Vec<(u32, IpAddr)>, Error> {
        const IFADDRMSG: usize = 8;
        let mut found = Vec::new();
        loop {
            let result = self.socket.dump(Message::new(libc::RTM_GETADDR, 0, &[0; IFADDRMSG]), |_, body| {
                let index = body.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
                let attributes = Attributes::after(body, IFADDRMSG);
                // An IPv6 address that is not of a point-to-point link has only the second.
                let local = attributes.find(libc::IFA_LOCAL).or_else(|| attributes.find(libc::IFA_ADDRESS));
                let local = local.filter(|_| wanted(attributes));
                found.extend(index.zip(local.and_then(|local| local.ip())));
            });
            match result {
                Err(netlink::Error::Interrupted) => found.clear(),
                other => return other.map(|()| found).map_err(Error::from),
            }
        }
    }
}

/// The prefix of a block that is one address.
pub fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
