//! The container's file system tree, mounted in a mount namespace of the helper's own: it lives on in the
//! container's copy and vanishes with the container, so the host never sees it and nothing has to be unmounted.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};

use super::users::Users;
use crate::kernel::{self, NewMount};
use crate::layout::ContainerDir;

/// mount(2) takes one page of options.
const MAX_OPTIONS: usize = 4000;

/// From here on, the mounts are the helper's own.
pub(super) fn isolate() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNS)?)
}

/// Among the mounts of a container with its own users.
pub(super) const ROOTFS: &str = "rootfs";

/// The mounted tree.
pub(super) struct Rootfs<'a> {
    directory: OwnedFd,
    users: Option<&'a Users>,
}

impl<'a> Rootfs<'a> {
    /// In the mount namespace of [`isolate`]. For a pod with its own users, what the image gives to anybody is that
    /// user's of the pod; what the container writes lies with the pod's users on the disk, too.
    pub(super) fn mount(directory: &ContainerDir, layers: &[PathBuf], users: Option<&'a Users>) -> io::Result<Self> {
        if layers.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the image has no layers"));
        }
        // What the host mounts later still arrives; what we mount stays here.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        let target = if users.is_some() { directory.mounts().join(ROOTFS) } else { directory.rootfs() };
        for path in [&directory.rootfs(), &target, &directory.upper(), &directory.work()] {
            fs::create_dir_all(path)?;
        }
        // The upper directory becomes the container's `/`.
        fs::set_permissions(directory.upper(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let shown = match users {
            Some(users) => {
                users.own(&directory.upper())?;
                Some(show(layers, &directory.layers(), users)?)
            }
            None => None,
        };
        overlay(&target, shown.as_deref().unwrap_or(layers), &directory.upper(), &directory.work())?;
        let opened = nix::fcntl::open(&target, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { directory: kernel::inherited(opened)?, users })
    }

    /// A file's text as the container would see it; empty when there is none.
    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        match kernel::open_in_root(self.directory.as_fd(), Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => {
                let mut text = Vec::new();
                fs::File::from(fd).take(1 << 20).read_to_end(&mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(e),
        }
    }

    /// Makes a directory and its parents, each resolved as the container would.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let mut prefix = PathBuf::from("/");
        let mut parent = self.open_directory(&prefix)?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            prefix.push(name);
            parent = match self.open_directory(&prefix) {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    mkdirat(Some(parent.as_raw_fd()), Path::new(name), Mode::from_bits_truncate(0o755))?;
                    let made = self.open_directory(&prefix)?;
                    self.own(&made)?;
                    made
                }
                other => other?,
            };
        }
        Ok(())
    }

    /// It has been made by root of the node.
    fn own(&self, made: &OwnedFd) -> io::Result<()> {
        // Opened as a mere path it cannot be changed; its name below /proc can.
        self.users.map_or(Ok(()), |users| users.own(&PathBuf::from(format!("/proc/self/fd/{}", made.as_raw_fd()))))
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        kernel::open_in_root(self.directory.as_fd(), path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }
}

/// The layers as the pod's users are to see them.
pub(super) fn show(layers: &[PathBuf], place: &Path, users: &Users) -> io::Result<Vec<PathBuf>> {
    let mut shown = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        let tree = kernel::clone_tree(layer)?;
        users.show(&tree)?;
        let at = place.join(index.to_string());
        fs::create_dir_all(&at)?;
        kernel::attach(&tree, &at)?;
        shown.push(at);
    }
    Ok(shown)
}

fn overlay(target: &Path, layers: &[PathBuf], upper: &Path, work: &Path) -> io::Result<()> {
    let options = options(layers, upper, work);
    match options {
        Some(options) => Ok(mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(&*options))?),
        None => {
            let overlay = NewMount::open(c"overlay")?;
            for layer in layers {
                overlay.set(c"lowerdir+", layer)?;
            }
            overlay.set(c"upperdir", upper)?;
            overlay.set(c"workdir", work)?;
            overlay.mount_at(target)
        }
    }
}

/// `None` when they do not fit, or a path has a character that means something there.
fn options(layers: &[PathBuf], upper: &Path, work: &Path) -> Option<String> {
    let plain = |path: &Path| path.to_str().filter(|p| !p.contains([':', ',', '\\'])).map(str::to_owned);
    let layers: Option<Vec<String>> = layers.iter().map(|l| plain(l)).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", layers?.join(":"), plain(upper)?, plain(work)?);
    Some(options).filter(|o| o.len() <= MAX_OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_mount_cannot_take_are_left_to_the_newer_call() {
        let path = |s: &str| PathBuf::from(s);
        assert_eq!(
            options(&[path("/a"), path("/b")], Path::new("/u"), Path::new("/w")).as_deref(),
            Some("lowerdir=/a:/b,upperdir=/u,workdir=/w")
        );
        assert_eq!(options(&[path("/a:b")], Path::new("/u"), Path::new("/w")), None);
        assert_eq!(options(&vec![path("/layers/0123456789"); 300], Path::new("/u"), Path::new("/w")), None);
    }
}
