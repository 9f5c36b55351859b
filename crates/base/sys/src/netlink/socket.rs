//! A netlink socket that sends requests and collects the kernel's answers.

use std::io;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::message::{Message, received};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// Room for the replies to one system call.
const RECEIVE_BYTES: usize = 64 * 1024;
/// A first load of ten thousand services is 3 MB; the kernel refuses a datagram above the send buffer.
const SEND_BUFFER_BYTES: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    #[error("send {bytes} bytes over netlink")]
    Send {
        bytes: usize,
        #[source]
        source: io::Error,
    },
    #[error("receive over netlink")]
    Receive(#[source] io::Error),
    #[error("the kernel's netlink dump was interrupted by a change")]
    Interrupted,
}

/// Which kernel subsystem answers.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Route,
    Netfilter,
}

/// The kernel's verdict on the request with this sequence number: 0 or a positive errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub sequence: u32,
    pub errno: i32,
}

/// One socket; it stays in the network namespace it was opened in, whichever thread uses it.
#[derive(Debug)]
pub struct Socket {
    raw: RawSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
        };
        let mut raw = RawSocket::new(number as isize).map_err(Error::Open)?;
        raw.bind_auto().map_err(Error::Open)?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(Error::Open)?;
        raw.set_cap_ack(true).map_err(Error::Open)?;
        Ok(Self { raw, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Lets one datagram be as large as a full rule set. Needs CAP_NET_ADMIN.
    pub fn allow_large_batches(&self) -> Result<(), Error> {
        setsockopt(&self.raw, sockopt::SndBufForce, &SEND_BUFFER_BYTES).map_err(|e| Error::Open(e.into()))
    }

    /// Sends the messages as one datagram and returns the sequence number of the first; the others follow it.
    pub fn send(&mut self, messages: &mut [Message]) -> Result<u32, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(messages.iter().map(Message::size).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.set_sequence(self.sequence);
            datagram.extend_from_slice(message.bytes());
        }
        self.raw.send(&datagram, 0).map_err(|source| Error::Send { bytes: datagram.len(), source })?;
        Ok(first)
    }

    /// Every acknowledgement and refusal that is already there. The kernel works inside `send`, so after it they all are.
    pub fn replies(&mut self) -> Result<Vec<Reply>, Error> {
        self.answers(|_, _| {})
    }

    /// Like [`Socket::replies`]; hands what else the kernel answered to `each`, as (type, body).
    pub fn answers(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<Vec<Reply>, Error> {
        let mut replies = Vec::new();
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(replies),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::Receive(e)),
            }
            for message in received(&self.buffer) {
                if message.kind == NLMSG_ERROR {
                    let code = message.body.get(0..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    replies.push(Reply { sequence: message.sequence, errno: -code });
                } else {
                    each(message.kind, message.body);
                }
            }
        }
    }

    /// Sends a dump request and hands each answer's (type, body) to `each`.
    pub fn dump(&mut self, mut request: Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        request.add_flags((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
        self.send(std::slice::from_mut(&mut request))?;
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::Receive(e)),
            }
            for message in received(&self.buffer) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE if interrupted => return Err(Error::Interrupted),
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = message.body.get(0..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                        return match code {
                            0 => Ok(()),
                            code => Err(Error::Receive(io::Error::from_raw_os_error(-code))),
                        };
                    }
                    kind => each(kind, message.body),
                }
            }
        }
    }
}
