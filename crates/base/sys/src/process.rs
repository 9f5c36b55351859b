//! Processes that are held, so that another one that gets a number later is never meant.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Need not be a child of this one.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// The process that has this number now.
    pub fn of(pid: u32) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has made this descriptor just now, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sends it SIGTERM; one that is gone is no harm.
    pub fn terminate(&self) -> io::Result<()> {
        let information = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: no pointer but a null siginfo, which is allowed.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGTERM, information, 0) };
        match (sent, io::Error::last_os_error()) {
            (0, _) => Ok(()),
            (_, error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            (_, error) => Err(error),
        }
    }

    /// Whether it ends in that time: all of its threads, the last of which holds its files. Blocks.
    pub fn ends_within(&self, time: Duration) -> io::Result<bool> {
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], time)? == 1)
    }

    /// Resolves once it has ended.
    pub async fn ended(self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and the `AsyncFd` owns it.
        let process = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        process.readable().await?.retain_ready();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_process_is_told_to_end_and_does() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!process.ends_within(Duration::ZERO).unwrap());
        process.terminate().unwrap();
        assert!(process.ends_within(Duration::from_secs(10)).unwrap());
        Process::of(child.id()).unwrap().ended().await.unwrap();
        child.wait().unwrap();
        process.terminate().unwrap();
        assert!(Process::of(u32::MAX >> 1).is_err());
    }
}
