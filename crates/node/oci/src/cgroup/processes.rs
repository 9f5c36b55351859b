//! Killing all that runs in a cgroup, by pidfd: a pid read from `cgroup.procs` may be another process by the
//! time the signal is sent, so membership is looked at again once the pidfd holds it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel;

pub(super) fn kill_all(cgroup: &Path) -> io::Result<()> {
    loop {
        let pids = members(cgroup)?;
        if pids.is_empty() {
            return Ok(());
        }
        let mut held: Vec<(i32, OwnedFd)> = Vec::new();
        for pid in pids {
            match kernel::pidfd(pid) {
                Ok(fd) => held.push((pid, fd)),
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
        let still = members(cgroup)?;
        held.retain(|(pid, _)| still.contains(pid));
        for (_, fd) in &held {
            // SAFETY: no pointer but a null siginfo, which is allowed; a process that is gone is no harm.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    fd.as_raw_fd(),
                    libc::SIGKILL,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                );
            }
        }
        for (_, fd) in &held {
            while let Err(e) = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
                if e != nix::errno::Errno::EINTR {
                    return Err(e.into());
                }
            }
        }
    }
}

/// The processes here and below; empty when the cgroup is gone. Those of other pid namespaces read as 0.
fn members(cgroup: &Path) -> io::Result<Vec<i32>> {
    let gone = |e: &io::Error| e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV);
    let text = match fs::read_to_string(cgroup.join("cgroup.procs")) {
        Err(e) if gone(&e) => return Ok(Vec::new()),
        other => other?,
    };
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect();
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pids.extend(members(&entry.path())?);
        }
    }
    Ok(pids)
}
