//! A container's output, and the attached clients that it goes to beside the log.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::crilog::Lines;
use crate::kernel;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Our end of one of the container's output streams.
pub(super) struct Output {
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    pub(super) lines: Lines,
}

pub(super) enum ReadResult {
    Data(usize),
    Nothing,
    End,
}

impl Output {
    pub(super) fn new(stream: Stream, fd: OwnedFd) -> io::Result<Self> {
        kernel::set_nonblocking(fd.as_fd())?;
        Ok(Self { stream, fd, lines: Lines::default() })
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> ReadResult {
        read(&self.fd, buffer)
    }
}

/// Reads once; a terminal whose last user has gone reads as an input/output error, which is an end too.
pub(super) fn read(fd: &OwnedFd, buffer: &mut [u8]) -> ReadResult {
    loop {
        return match kernel::borrow_file(fd).read(buffer) {
            Ok(0) => ReadResult::End,
            Ok(n) => ReadResult::Data(n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => ReadResult::Nothing,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => ReadResult::End,
        };
    }
}

/// A pipe that we write to and must not wait for.
pub(super) struct Sink {
    pub(super) fd: OwnedFd,
    pending: Vec<u8>,
}

impl Sink {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        kernel::set_nonblocking(fd.as_fd())?;
        Ok(Self { fd, pending: Vec::new() })
    }

    pub(super) fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes the data, keeping what the pipe does not. An error means that nobody reads any more.
    pub(super) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(data);
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.pending.len() {
                break Ok(());
            }
            match kernel::borrow_file(&self.fd).write(&self.pending[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.pending.drain(..sent);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        result
    }
}
