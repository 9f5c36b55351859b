//! The first process of a pod whose containers share their processes. It holds their pid namespace, takes in what loses
//! its parent, and dies with the shim.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::pipe2;

use crate::executable::{Role, same_binary};

/// The running process. It ends when this is dropped, and when the shim dies.
pub(super) struct Pause {
    pub(super) pid: u32,
    _life: OwnedFd,
}

impl Pause {
    pub(super) fn new(pid: u32, life: OwnedFd) -> Self {
        Self { pid, _life: life }
    }
}

/// What the process waits for the end of, and what its shim holds on to.
pub(super) fn life() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// Makes the namespace with that process in it. What the caller starts afterwards is born into the caller's own
/// namespace, as before.
pub(super) fn start(directory: &Path) -> io::Result<Pause> {
    let own = File::open("/proc/self/ns/pid")?;
    let (life, held) = life()?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let started = spawn(directory, life);
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    Ok(Pause::new(started?, held))
}

/// In the pid namespace that the caller's children are born into; answers the process's pid. It is reaped with all other
/// children.
pub(super) fn spawn(directory: &Path, life: OwnedFd) -> io::Result<u32> {
    let mut command = same_binary(Role::Pause);
    command.arg(directory).stdin(life).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?.id())
}

/// Its whole life. (The death of a parent could not be told by a signal: who starts it need not be the shim.)
pub(crate) fn main() -> i32 {
    let _ = nix::sys::prctl::set_name(c"sampan-pause"); // only for people who look at processes
    // SAFETY: no handler runs: ignored, children leave no zombies behind.
    if unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.is_err() {
        return 1;
    }
    let mut stdin = io::stdin();
    loop {
        match stdin.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return 0,
        }
    }
}
