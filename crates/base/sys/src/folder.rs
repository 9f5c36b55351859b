//! Changes of a folder, as the kernel tells them (inotify).

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Tells that files have come into a folder, have gone, or were written.
#[derive(Debug)]
pub struct FolderWatch {
    folder: PathBuf,
    inotify: Inotify,
    events: pipe::Receiver,
}

impl FolderWatch {
    /// Makes the folder where it is missing: it can then be watched. Must run within a tokio runtime.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Like a pipe, an inotify descriptor is polled for reading and read in whole records.
        let events = pipe::Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        let watch = Self { folder: folder.to_owned(), inotify, events };
        watch.begin()?;
        Ok(watch)
    }

    fn begin(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // Not each write: a file is read once it is whole. A link is whole when it is made.
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(&self.folder, what)?;
        Ok(())
    }

    /// Returns once something has changed since the last time. A folder that was removed is made again.
    pub async fn changed(&mut self) -> io::Result<()> {
        // Which records came does not matter: the folder is looked at anyway.
        let mut records = vec![0; 4096];
        self.events.read(&mut records).await.map(drop)?;
        // Where the folder is another one, it was not watched yet; else this changes nothing.
        self.begin()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_and_goes_is_told_also_after_the_folder_was_removed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("watched");
        let mut watch = FolderWatch::open(&folder).unwrap();
        for _ in 0..2 {
            std::fs::write(folder.join("a"), "x").unwrap();
            watch.changed().await.unwrap();
            std::fs::rename(folder.join("a"), folder.join("b")).unwrap();
            watch.changed().await.unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            while !folder.exists() {
                watch.changed().await.unwrap();
            }
            // What was told of before may be told once more.
        }
        std::fs::write(parent.path().join("file"), "x").unwrap();
        assert!(FolderWatch::open(&parent.path().join("file")).is_err());
    }
}
