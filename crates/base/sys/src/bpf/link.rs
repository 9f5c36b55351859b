//! What keeps a program attached to a cgroup: as long as somebody has it open or it is pinned.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::Error;
use super::call::{self, Command, bpf, bpf_fd};
use super::program::{Attach, Program};

#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

#[repr(C)]
struct Create {
    program: u32,
    cgroup: u32,
    attach: u32,
    flags: u32,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

impl Link {
    /// Beside other programs there.
    pub fn attach(cgroup: BorrowedFd<'_>, program: &Program, attach: Attach) -> Result<Self, Error> {
        let [program, cgroup] = [program.fd(), cgroup].map(number);
        let mut create = Create { program, cgroup, attach: attach as u32, flags: 0 };
        // SAFETY: the structure is the command's, of words only, and holds no address.
        let fd = unsafe { bpf_fd(Command::LinkCreate, &mut create) }.map_err(Error::Attach)?;
        Ok(Self { fd })
    }

    /// What is pinned there, where something is.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        Ok(call::open(path)?.map(|fd| Self { fd }))
    }

    pub fn pin(&self, path: &Path) -> Result<(), Error> {
        call::pin(self.fd.as_fd(), path)
    }

    /// In one moment: a connection meets the old program or the new one.
    pub fn replace(&self, program: &Program) -> Result<(), Error> {
        let [link, program] = [self.fd.as_fd(), program.fd()].map(number);
        let mut update = Update { link, program, flags: 0, old_program: 0 };
        // SAFETY: the structure is the command's, of words only, and holds no address.
        unsafe { bpf(Command::LinkUpdate, &mut update) }.map(drop).map_err(Error::Replace)
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}
