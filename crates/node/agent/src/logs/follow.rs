//! Waiting for a log file to grow, by inotify.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Reports that the file has changed. Made before the file is read, so that no growth is missed.
pub struct Follower(pipe::Receiver);

impl Follower {
    pub fn new(path: &Path) -> io::Result<Self> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        watch.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        // Like a pipe, an inotify descriptor is polled for reading and read in whole records.
        let descriptor = watch.as_fd().try_clone_to_owned()?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(descriptor)?))
    }

    /// Resolves when the file has changed since the last call.
    pub async fn changed(&mut self) -> io::Result<()> {
        // Which records came does not matter: there is one watch, for one kind of event.
        let mut records = [0; 4096];
        self.0.read(&mut records).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_write_wakes_the_follower() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut follower = Follower::new(file.path()).unwrap();
        file.write_all(b"before the wait").unwrap();
        follower.changed().await.unwrap();
        let waiting = tokio::spawn(async move { follower.changed().await });
        tokio::task::yield_now().await;
        file.write_all(b"during the wait").unwrap();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_cannot_be_followed() {
        assert!(Follower::new(Path::new("/nonexistent")).is_err());
    }
}
