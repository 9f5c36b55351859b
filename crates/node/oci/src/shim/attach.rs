//! Clients that share a container's streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::output::{Sink, Stream};
use crate::kernel;
use crate::wire::StreamKind;

pub(super) struct Attached {
    /// What the client types.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
}

/// Whose ends go to the client.
pub(super) struct ClientEnds {
    pub(super) streams: Vec<StreamKind>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Attached {
    /// `terminal` replaces the separate standard error by a way to resize.
    pub(super) fn new(stdin: bool, terminal: Option<&OwnedFd>) -> io::Result<(Self, ClientEnds)> {
        let mut ends = ClientEnds { streams: Vec::new(), descriptors: Vec::new() };
        let mut attached = Self { stdin: None, stdout: None, stderr: None };
        if stdin {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            kernel::set_nonblocking(ours.as_fd())?;
            attached.stdin = Some(ours);
            ends.push(StreamKind::Stdin, theirs);
        }
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        attached.stdout = Some(Sink::new(ours)?);
        ends.push(StreamKind::Stdout, theirs);
        if let Some(terminal) = terminal {
            ends.push(StreamKind::Resize, terminal.try_clone()?);
        } else {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            attached.stderr = Some(Sink::new(ours)?);
            ends.push(StreamKind::Stderr, theirs);
        }
        Ok((attached, ends))
    }

    pub(super) fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// A client that does not keep up holds the container's output back rather than losing some of it.
    pub(super) fn is_full(&self, stream: Stream) -> bool {
        let sink = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        sink.as_ref().is_some_and(Sink::is_full)
    }

    pub(super) fn push(&mut self, stream: Stream, data: &[u8]) {
        let sink = self.sink(stream);
        if sink.as_mut().is_some_and(|s| s.push(data).is_err()) {
            *sink = None;
        }
    }

    pub(super) fn flush(&mut self, stream: Stream) {
        self.push(stream, &[]);
    }

    /// The container has ended: what was sent already is still delivered, then the client sees the end.
    pub(super) fn close(&mut self) {
        self.stdin = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.is_full(stream) {
                *self.sink(stream) = None;
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }
}

impl ClientEnds {
    fn push(&mut self, kind: StreamKind, fd: OwnedFd) {
        self.streams.push(kind);
        self.descriptors.push(fd);
    }
}
