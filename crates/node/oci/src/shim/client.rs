//! One connection to the shim.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::kernel;
use crate::wire::{self, Inbox, Message, Request};

/// Names a connection for as long as the shim lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId(pub(super) u64);

pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) socket: UnixStream,
    inbox: Inbox,
    outbox: VecDeque<Outgoing>,
    pub(super) dead: bool,
}

struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

impl Client {
    pub(super) fn new(id: ClientId, socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { id, socket, inbox: Inbox::default(), outbox: VecDeque::new(), dead: false })
    }

    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Queues a message and sends what the socket takes.
    pub(super) fn send(&mut self, message: &Message, descriptors: Vec<OwnedFd>) {
        let count = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        self.outbox.push_back(Outgoing { bytes: wire::encode(message, count), sent: 0, descriptors });
        self.flush();
    }

    pub(super) fn flush(&mut self) {
        while let Some(next) = self.outbox.front_mut() {
            let raw: Vec<_> = next.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
            match kernel::send(self.socket.as_fd(), &next.bytes[next.sent..], &raw) {
                Ok(n) => {
                    next.descriptors.clear(); // they went with the first byte
                    next.sent += n;
                    if next.sent == next.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
    }

    /// Reads once; the requests that are complete. An end or a frame that makes no sense ends the connection.
    pub(super) fn receive(&mut self) -> Vec<Request> {
        match self.inbox.receive(self.socket.as_fd()) {
            Ok(0) => self.dead = true,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.dead = true,
        }
        let mut requests = Vec::new();
        loop {
            match self.inbox.next() {
                Ok(Some((request, _))) => requests.push(request),
                Ok(None) => return requests,
                Err(_) => {
                    self.dead = true;
                    return requests;
                }
            }
        }
    }
}
