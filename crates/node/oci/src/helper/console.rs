//! Receiving the terminal that libcontainer makes inside the container.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::kernel;

const SOCKET: &str = "terminal.sock";

/// The socket that libcontainer is told to send the terminal to. It connects while we are inside its build
/// call; the connection waits in the listener's queue.
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// `directory` is used by this helper alone.
    pub(super) fn listen(directory: &Path) -> io::Result<Self> {
        let entrance = nix::fcntl::open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let entrance = kernel::inherited(entrance)?;
        // The whole path may be too long for a socket's address.
        let short = Path::new("/proc/self/fd").join(entrance.as_raw_fd().to_string()).join(SOCKET);
        Ok(Self { listener: UnixListener::bind(short)?, path: directory.join(SOCKET) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The terminal, which has been sent when libcontainer's build call has returned.
    pub(super) fn receive(self) -> io::Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (socket, _) = self.listener.accept()?;
        let _ = std::fs::remove_file(&self.path);
        let (_, descriptors) = kernel::receive(socket.as_fd(), &mut [0; 64])?;
        descriptors.into_iter().next().ok_or_else(|| io::Error::other("no terminal was sent"))
    }
}
