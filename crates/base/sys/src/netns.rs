//! Work inside another network namespace, always on a thread of its own: a runtime's worker that changed namespace
//! would carry every other task on it along.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Linux 5.14; not in the libc crate.
const SO_NETNS_COOKIE: libc::c_int = 71;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the network namespace {}", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("start a thread for network namespace work")]
    Spawn(#[source] io::Error),
    #[error("enter a network namespace")]
    Enter(#[source] io::Error),
    #[error("create a network namespace")]
    Create(#[source] io::Error),
    #[error("read a network namespace's cookie")]
    Cookie(#[source] io::Error),
}

/// A network namespace, kept alive while this value lives.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

impl NetNs {
    /// Opens a namespace file: `/proc/PID/ns/net` or a bind mount of one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Ok(Self { file })
    }

    /// The calling thread's own namespace.
    pub fn current() -> Result<Self, Error> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new, empty namespace without a name; it is gone when the last user drops it.
    pub fn create() -> Result<Self, Error> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::Create(e.into()))?;
            Self::current()
        })?
    }

    /// Runs `work` inside the namespace and returns its result. A panic in `work` continues in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| Error::Enter(e.into()))?;
            Ok(work())
        })?
    }

    /// A number that no other namespace gets until the next boot, unlike the inode's.
    pub fn cookie(&self) -> Result<u64, Error> {
        self.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            let mut cookie = 0_u64;
            let mut length = size_of::<u64>() as libc::socklen_t;
            // SAFETY: the option's value is one u64; the pointers are to live locals of exactly that size, and the
            // descriptor is open for the whole call.
            let result = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    SO_NETNS_COOKIE,
                    (&raw mut cookie).cast(),
                    &raw mut length,
                )
            };
            if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
        })?
        .map_err(Error::Cookie)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The namespace's inode number: equal for two handles of the same namespace.
    pub fn id(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.ino())
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let handle = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work).map_err(Error::Spawn)?;
        match handle.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let outside = NetNs::current().unwrap().id().unwrap();
        let other = NetNs::create().unwrap();
        let inside = other.run(|| NetNs::current().unwrap().id().unwrap()).unwrap();
        assert_eq!(inside, other.id().unwrap());
        assert_ne!(inside, outside);
        assert_ne!(other.cookie().unwrap(), NetNs::current().unwrap().cookie().unwrap());
        assert_eq!(NetNs::current().unwrap().id().unwrap(), outside);
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused() {
        assert!(matches!(NetNs::open(Path::new("/nonexistent/netns")), Err(Error::Open { .. })));
        let not_netns = NetNs::open(Path::new("/proc/self/status")).unwrap();
        assert!(matches!(not_netns.run(|| ()), Err(Error::Enter(_))));
    }
}
