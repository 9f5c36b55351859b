//! Waiting for a log to grow, by inotify.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Reports that something in the log's directory has changed: a rotation makes another file there. Made before the log is
/// read, so that no growth is missed.
pub struct Follower(pipe::Receiver);

impl Follower {
    pub fn new(log: &Path) -> io::Result<Self> {
        let directory = log.parent().ok_or(io::ErrorKind::NotFound)?;
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        watch.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE)?;
        // Like a pipe, an inotify descriptor is polled for reading and read in whole records.
        let descriptor = watch.as_fd().try_clone_to_owned()?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(descriptor)?))
    }

    /// Resolves when it has changed since the last call.
    pub async fn changed(&mut self) -> io::Result<()> {
        // Which records came does not matter: the log is looked at anyway.
        let mut records = [0; 4096];
        self.0.read(&mut records).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_write_wakes_the_follower_and_so_does_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut follower = Follower::new(&path).unwrap();
        file.write_all(b"before the wait").unwrap();
        follower.changed().await.unwrap();
        let waiting = tokio::spawn(async move { follower.changed().await.map(|()| follower) });
        tokio::task::yield_now().await;
        file.write_all(b"during the wait").unwrap();
        let mut follower = waiting.await.unwrap().unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        std::fs::File::create(&path).unwrap();
        follower.changed().await.unwrap();
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_cannot_be_followed() {
        assert!(Follower::new(Path::new("/nonexistent/0.log")).is_err());
    }
}
