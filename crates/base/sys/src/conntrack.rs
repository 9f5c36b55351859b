//! Deleting connection tracking entries: an entry keeps sending a flow to the destination chosen when it began, so the
//! UDP flows of a withdrawn endpoint must lose theirs.

use std::io;
use std::net::IpAddr;

use crate::netlink::{self, Attribute, Attributes, Message, Protocol, Socket};

const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const GENMSG: usize = 4;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// Source and destination have one kind per family.
const IP_SOURCE: [u16; 2] = [1, 3];
const IP_DESTINATION: [u16; 2] = [2, 4];
const PROTO_NUMBER: u16 = 1;
const PROTO_DESTINATION_PORT: u16 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("talk to connection tracking")]
    Netlink(#[from] netlink::Error),
    #[error("delete a connection tracking entry")]
    Delete(#[source] io::Error),
}

/// One tracked flow, as far as choosing which to delete needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: u8,
    /// Where the client sent to.
    pub destination: (IpAddr, u16),
    /// Who answers: differs from `destination` when the flow is translated.
    pub answered_by: IpAddr,
}

/// Deletes every entry that `select` picks and returns how many. Flows that end meanwhile are not an error.
pub fn delete(select: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut requests = Vec::new();
    // An interrupted dump needs no second try: what it missed began after the change that made us look.
    let dumped = socket.dump(Message::new(GET, 0, &[libc::AF_UNSPEC as u8, 0, 0, 0]), |_, body| {
        let Some(family) = body.first() else { return };
        let attributes = Attributes::after(body, GENMSG);
        let Some(original) = attributes.find(TUPLE_ORIGINAL) else { return };
        let Some(flow) = flow(original, attributes) else { return };
        if select(&flow) {
            let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
            let mut request = Message::new(DELETE, flags, &[*family, 0, 0, 0]);
            // The entry is found by its tuple; the id guards against a successor with the same tuple.
            request.attribute(TUPLE_ORIGINAL | 0x8000, |m| m.raw(original.payload));
            if let Some(id) = attributes.find(ID) {
                request.put(ID, id.payload);
            }
            requests.push(request);
        }
    });
    match dumped {
        Err(netlink::Error::Interrupted) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let mut deleted = 0;
    // nfnetlink handles one request per datagram outside a batch.
    for request in &mut requests {
        socket.send(std::slice::from_mut(request))?;
        for reply in socket.replies()? {
            match reply.errno {
                0 => deleted += 1,
                libc::ENOENT => {}
                errno => return Err(Error::Delete(io::Error::from_raw_os_error(errno))),
            }
        }
    }
    Ok(deleted)
}

fn flow(original: Attribute<'_>, attributes: Attributes<'_>) -> Option<Flow> {
    let reply = attributes.find(TUPLE_REPLY)?.nested();
    let proto = original.nested().find(TUPLE_PROTO)?.nested();
    let address = |tuple: Attributes<'_>, kinds: [u16; 2]| {
        let addresses = tuple.find(TUPLE_IP)?.nested();
        kinds.into_iter().find_map(|kind| addresses.find(kind))?.ip()
    };
    Some(Flow {
        protocol: *proto.find(PROTO_NUMBER)?.payload.first()?,
        destination: (
            address(original.nested(), IP_DESTINATION)?,
            proto.find(PROTO_DESTINATION_PORT).and_then(|port| port.be16()).unwrap_or_default(),
        ),
        answered_by: address(reply, IP_SOURCE)?,
    })
}
