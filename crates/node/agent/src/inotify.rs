//! A directory that is watched by the kernel.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

pub struct Changes(pipe::Receiver);

impl Changes {
    pub fn of(directory: &Path, flags: AddWatchFlags) -> io::Result<Self> {
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        watch.add_watch(directory, flags)?;
        let descriptor = watch.as_fd().try_clone_to_owned()?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(descriptor)?))
    }

    /// Resolves once something has changed since it was made, or since the last call.
    pub async fn next(&mut self) -> io::Result<()> {
        // Which records came does not matter: whoever waits looks at all that is there.
        let mut records = [0; 4096];
        self.0.read(&mut records).await.map(drop)
    }
}
