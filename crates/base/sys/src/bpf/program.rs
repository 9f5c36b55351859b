//! Programs that see the addresses which sockets connect to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Error;
use super::asm::Asm;
use super::call::{Command, address, bpf_fd};

const SOCKET_ADDRESS: u32 = 18;

/// When a program runs: for every socket of the cgroup that does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    Connect4 = 10,
    Connect6 = 11,
    PeerName4 = 29,
    PeerName6 = 30,
}

#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach: u32,
}

impl Program {
    pub fn load(name: &'static str, attach: Attach, text: Asm) -> Result<Self, Error> {
        let code = text.finish();
        let silent = load(name, attach, &code, &mut []);
        let fd = silent.or_else(|source| {
            // Again, for the reason.
            let mut log = vec![0; 64 * 1024];
            load(name, attach, &code, &mut log).map_err(|_| {
                let text = String::from_utf8_lossy(&log);
                let last = text.trim_end_matches('\0').lines().rev().take(3).collect::<Vec<_>>();
                Error::Load { name, log: last.into_iter().rev().collect::<Vec<_>>().join("; "), source }
            })
        })?;
        Ok(Self { fd })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn load(name: &str, attach: Attach, code: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut load = Load {
        kind: SOCKET_ADDRESS,
        instructions: code.len() as u32,
        code: address(code.as_ptr()),
        license: address(c"GPL".as_ptr()),
        attach: attach as u32,
        ..Load::default()
    };
    if !log.is_empty() {
        (load.log_level, load.log_size, load.log) = (1, log.len() as u32, address(log.as_mut_ptr()));
    }
    load.name.iter_mut().zip(name.bytes().take(15)).for_each(|(to, byte)| *to = byte);
    // SAFETY: the structure is the command's without padding. Instructions, license (which ends with zero) and log outlive
    // the call, and the sizes of the first and the last are told.
    unsafe { bpf_fd(Command::ProgramLoad, &mut load) }
}
