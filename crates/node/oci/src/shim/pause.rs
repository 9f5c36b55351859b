//! The first process of a pod whose containers share their processes. It holds their pid namespace, takes in what loses
//! its parent, and dies with the shim.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::executable::{Role, same_binary};

/// Makes the namespace with that process in it, and answers its pid. What the caller starts afterwards is born into the
/// caller's own namespace, as before.
pub(super) fn start(directory: &Path) -> io::Result<u32> {
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let mut command = same_binary(Role::Pause);
    command.arg(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = command.spawn();
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    Ok(started?.id()) // reaped with all other children
}

/// Its whole life.
pub(crate) fn main() -> i32 {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = nix::sys::prctl::set_name(c"sampan-pause"); // only for people who look at processes
    // SAFETY: no handler runs: ignored, children leave no zombies behind.
    if unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.is_err() {
        return 1;
    }
    loop {
        nix::unistd::pause();
    }
}
