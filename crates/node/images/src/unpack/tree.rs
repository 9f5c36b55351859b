//! Writes one layer's directory without ever leaving it: every parent is opened with `openat2` inside the layer's root,
//! and what is made is made relative to that descriptor, never through a link in its last component.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// Owner, mode, time and extended attributes of an entry.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub seconds: i64,
    pub nanoseconds: u32,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Meta {
    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// An entry without content.
pub enum Node<'a> {
    Symlink(&'a Path),
    Char(Dev),
    Block(Dev),
    Fifo,
}

pub struct Tree {
    root: OwnedFd,
    /// Topmost first.
    below: Vec<OwnedFd>,
    /// The parent of the entry before: archives list directories in one go.
    recent: Option<(Vec<OsString>, OwnedFd)>,
    /// Directory times, set last since every new child changes them.
    times: Vec<(PathBuf, Timestamps)>,
}

const OPEN_PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Resolves inside `root`: absolute links and `..` start over at `root`, as they do for a process in the container.
fn open_in(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            // The kernel could not rule out a race with a rename; nobody renames here, so it settles.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

impl Tree {
    /// Writes into the empty directory `root`, on top of the layers `below` (topmost first).
    pub fn open(root: &Path, below: &[PathBuf]) -> io::Result<Self> {
        let open = |path: &Path| rustix::fs::open(path, OPEN_DIR, Mode::empty());
        let below = below.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        let tree = Self { root: open(root)?, below, recent: None, times: Vec::new() };
        tree.inherit(tree.root.as_fd(), Path::new("."))?;
        Ok(tree)
    }

    pub fn root(&mut self, meta: &Meta) -> io::Result<()> {
        describe(self.root.as_fd(), meta)?;
        self.times.push((PathBuf::from("."), meta.times()));
        Ok(())
    }

    pub fn directory(&mut self, parent: &[OsString], name: &OsStr, meta: &Meta) -> io::Result<()> {
        let directory = self.parent(parent)?;
        let directory = directory.as_fd();
        let hides = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_directory(&stat) => None,
            Ok(stat) => {
                rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
                Some(is_whiteout(&stat))
            }
            Err(Errno::NOENT) => Some(false),
            Err(error) => return Err(error.into()),
        };
        if hides.is_some() {
            rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
        }
        let made = rustix::fs::openat(directory, name, OPEN_DIR, Mode::empty())?;
        describe(made.as_fd(), meta)?;
        if hides == Some(true) {
            set_opaque(made.as_fd())?;
        }
        self.recent = None;
        self.times.push((parent.iter().collect::<PathBuf>().join(name), meta.times()));
        Ok(())
    }

    /// A new empty file, writable; [`Self::complete_file`] gives it its attributes.
    pub fn file(&mut self, parent: &[OsString], name: &OsStr) -> io::Result<File> {
        let parent = self.cleared(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    pub fn complete_file(&self, file: File, meta: &Meta) -> io::Result<()> {
        describe(file.as_fd(), meta)?;
        Ok(rustix::fs::futimens(&file, &meta.times())?)
    }

    pub fn node(&mut self, parent: &[OsString], name: &OsStr, node: Node<'_>, meta: &Meta) -> io::Result<()> {
        let parent = self.cleared(parent, name)?;
        let parent = parent.as_fd();
        let mode = Mode::from_raw_mode(meta.mode as RawMode);
        match &node {
            Node::Symlink(target) => rustix::fs::symlinkat(*target, parent, name)?,
            Node::Char(device) => rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, *device)?,
            Node::Block(device) => rustix::fs::mknodat(parent, name, FileType::BlockDevice, mode, *device)?,
            Node::Fifo => rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)?,
        }
        let (uid, gid) = owner(meta);
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(node, Node::Symlink(_)) {
            // Just made here, no link; after chown, which clears the set-id bits, and past the umask.
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(parent, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// `target` is what the archive names, from the layer's root.
    pub fn hard_link(&mut self, parent: &[OsString], name: &OsStr, target: &[OsString]) -> io::Result<()> {
        let Some((target_name, target_parent)) = target.split_last() else { return Err(Errno::PERM.into()) };
        if parent == target_parent && name == target_name {
            return Err(Errno::EXIST.into());
        }
        let from = open_in(&self.root, &target_parent.iter().collect::<PathBuf>(), OPEN_PATH | OFlags::DIRECTORY)?;
        let to = self.cleared(parent, name)?;
        // Without AT_SYMLINK_FOLLOW a link's own inode is linked.
        Ok(rustix::fs::linkat(from, target_name, to, name, AtFlags::empty())?)
    }

    /// Hides `name` of the layers below. What this layer itself has of that name stays, cut off from below.
    pub fn whiteout(&mut self, parent: &[OsString], name: &OsStr) -> io::Result<()> {
        let parent = self.parent(parent)?;
        let parent = parent.as_fd();
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_directory(&stat) => {
                set_opaque(rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())?.as_fd())
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Ok(rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Hides everything that the layers below have in `directory`.
    pub fn opaque(&mut self, directory: &[OsString]) -> io::Result<()> {
        self.parent(directory)?;
        let path: PathBuf = directory.iter().collect();
        let directory = open_in(&self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        set_opaque(directory.as_fd())
    }

    /// Sets the times of directories, last made first.
    pub fn finish(&mut self) -> io::Result<()> {
        for (path, times) in self.times.drain(..).rev() {
            match open_in(&self.root, &path, OPEN_DIR) {
                Ok(directory) => rustix::fs::futimens(directory, &times)?,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The directory for an entry `name`, with what was in its place removed.
    fn cleared(&mut self, parent: &[OsString], name: &OsStr) -> io::Result<OwnedFd> {
        let directory = self.parent(parent)?;
        match rustix::fs::unlinkat(directory.as_fd(), name, AtFlags::empty()) {
            Ok(()) => self.recent = None,
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let place = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
                std::fs::remove_dir_all(place.join(name))?;
                self.recent = None;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(directory)
    }

    /// The directory of that path; missing ones are made, with owner and mode of the layers below.
    fn parent(&mut self, names: &[OsString]) -> io::Result<OwnedFd> {
        if let Some((recent, directory)) = &self.recent
            && recent == names
        {
            return directory.try_clone();
        }
        let path: PathBuf = names.iter().collect();
        let directory = match open_in(&self.root, &path, OPEN_PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(names)?,
            Err(error) => return Err(error.into()),
        };
        self.recent = Some((names.to_vec(), directory.try_clone()?));
        Ok(directory)
    }

    fn make_parents(&self, names: &[OsString]) -> io::Result<OwnedFd> {
        let mut above = self.root.try_clone()?;
        let mut path = PathBuf::new();
        for name in names {
            path.push(name);
            above = match open_in(&self.root, &path, OPEN_PATH | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => self.make_directory(&above, name, &path)?,
                Err(Errno::NOTDIR) => {
                    let stat = rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if !is_whiteout(&stat) {
                        return Err(Errno::NOTDIR.into());
                    }
                    rustix::fs::unlinkat(&above, name, AtFlags::empty())?;
                    let directory = self.make_directory(&above, name, &path)?;
                    set_opaque(rustix::fs::openat(&above, name, OPEN_DIR, Mode::empty())?.as_fd())?;
                    directory
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(above)
    }

    /// Fails where `name` is a link to nowhere: making its target is not what the archive says.
    fn make_directory(&self, above: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(above, name, Mode::from_raw_mode(0o755))?;
        let made = rustix::fs::openat(above, name, OPEN_DIR, Mode::empty())?;
        self.inherit(made.as_fd(), path)?;
        Ok(made)
    }

    /// Gives a directory that the archive does not describe the owner and mode it has below.
    fn inherit(&self, directory: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let mut meta = Meta { mode: 0o755, ..Meta::default() };
        for layer in &self.below {
            match open_in(layer, path, OPEN_PATH) {
                Ok(found) => {
                    let stat = rustix::fs::fstat(found)?;
                    if is_directory(&stat) {
                        meta = Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, ..meta };
                    }
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        describe(directory, &meta)
    }
}

fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
}

fn describe(fd: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
    let (uid, gid) = owner(meta);
    rustix::fs::fchown(fd, uid, gid)?;
    // After chown, which clears set-id bits and capabilities.
    rustix::fs::fchmod(fd, Mode::from_raw_mode(meta.mode as RawMode))?;
    for (name, value) in &meta.xattrs {
        match rustix::fs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
            // Labels of a security module that this host does not run, or a file system without attributes.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}
