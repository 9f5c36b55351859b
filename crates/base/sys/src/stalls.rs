//! The kernel's word that programs wait for memory (PSI): by then there is little left.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const FILE: &str = "/proc/pressure/memory";
/// Some have waited for 100 ms of two seconds; windows of other lengths take more privileges.
const TRIGGER: &[u8] = b"some 100000 2000000\0";

/// Of this host.
pub struct Stalls(AsyncFd<File>);

impl Stalls {
    /// Fails where the kernel does not tell.
    pub fn follow() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(FILE)?;
        file.write_all(TRIGGER)?;
        // SAFETY: a `File` names the same open descriptor until it is dropped, and the `AsyncFd` owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?))
    }

    /// The next time, at most once in two seconds.
    pub async fn next(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_kernel_takes_the_trigger() {
        let stalls = Stalls::follow().expect("PSI");
        // Nothing is told of what does not happen: it is still to come.
        let soon = tokio::time::timeout(std::time::Duration::ZERO, stalls.next()).await;
        assert!(soon.is_err() || soon.is_ok_and(|told| told.is_ok()));
    }
}
