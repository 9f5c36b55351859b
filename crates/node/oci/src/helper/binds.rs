//! The sources of bind mounts, as the container is to have them: libcontainer copies a source with whatever propagation
//! it has, so each gets the right one before, at a place of its own in the helper's mount namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base_sys::mounts::{self, Mounted};

use super::rootfs;
use super::users::Users;
use crate::kernel;
use crate::layout::ContainerDir;
use crate::spec::{Mount, Propagation};

#[derive(Debug, thiserror::Error)]
pub(super) enum BindError {
    #[error("path {path:?} is mounted on {at:?} but it is not a shared mount", path = .0, at = .1)]
    NotShared(PathBuf, PathBuf),
    #[error("prepare the mount of {path}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Copies that are still connected with the host's mounts.
pub(super) struct Connected(Vec<(usize, OwnedFd)>);

impl Connected {
    /// Before the namespace becomes a mere receiver of what the host mounts.
    pub(super) fn take(all: &[Mount]) -> Result<Self, BindError> {
        let mut taken = Vec::new();
        let both = |mount: &&Mount| mount.propagation == Propagation::Bidirectional;
        if !all.iter().any(|mount| both(&mount)) {
            return Ok(Self(taken));
        }
        let known = mounts::all().map_err(failed(Path::new("/proc/self/mountinfo")))?;
        for (index, mount) in all.iter().enumerate().filter(|(_, mount)| both(mount)) {
            let source = mount.source.canonicalize().map_err(failed(&mount.source))?;
            if let Some(on) = mounts::of(&known, &source).filter(|on| !on.shared) {
                return Err(BindError::NotShared(source, on.at.clone()));
            }
            taken.push((index, kernel::clone_tree(&source).map_err(failed(&source))?));
        }
        Ok(Self(taken))
    }

    /// The mounts with the places of their sources.
    pub(super) fn place(
        self,
        directory: &ContainerDir,
        all: &[Mount],
        users: Option<&Users>,
    ) -> Result<Vec<Mount>, BindError> {
        let known = users.map(|_| mounts::all()).transpose().map_err(failed(Path::new("/proc/self/mountinfo")))?;
        let mut placed = all.to_vec();
        let mut connected = self.0.into_iter().peekable();
        for (index, mount) in placed.iter_mut().enumerate() {
            let failed = failed(&mount.source);
            let tree = match mount.propagation {
                Propagation::Bidirectional => connected.next_if(|(of, _)| *of == index).map(|(_, tree)| Ok(tree)),
                Propagation::Private => Some(cut_off(&mount.source)),
                // As everything in this namespace is.
                Propagation::HostToContainer => users.map(|_| kernel::clone_tree(&mount.source)),
            };
            let Some(tree) = tree else { continue };
            let place = directory.mounts().join(index.to_string());
            let placed = tree.and_then(|tree| {
                let shown = match users.zip(known.as_deref()) {
                    Some((users, known)) => {
                        show(tree, &mount.source, users, known, &directory.layers().join(format!("of-{index}")))?
                    }
                    None => tree,
                };
                make_alike(&mount.source, &place)?;
                kernel::attach(&shown, &place)
            });
            placed.map_err(failed)?;
            mount.source = place;
        }
        Ok(placed)
    }
}

/// The tree as the pod's users are to see it. An overlay cannot be shown to others, but its layers can: where it is only
/// read (an image as a volume), another is made of them, somewhere below `aside`.
fn show(tree: OwnedFd, source: &Path, users: &Users, known: &[Mounted], aside: &Path) -> io::Result<OwnedFd> {
    let source = source.canonicalize()?;
    let Some(overlay) = mounts::of(known, &source).filter(|on| !on.layers.is_empty()) else {
        users.show(&tree)?;
        return Ok(tree);
    };
    let layers = rootfs::show(&overlay.layers, aside, users)?;
    let again = aside.join("again");
    fs::create_dir_all(&again)?;
    mounts::mount_layers(&again, &layers)?;
    cut_off(&again.join(source.strip_prefix(&overlay.at).unwrap_or(Path::new(""))))
}

fn cut_off(source: &Path) -> io::Result<OwnedFd> {
    let tree = kernel::clone_tree(source)?;
    kernel::make_private(&tree)?;
    Ok(tree)
}

/// A directory can be mounted on a directory only, and all else on a file.
fn make_alike(source: &Path, place: &Path) -> io::Result<()> {
    if source.is_dir() {
        return fs::create_dir_all(place);
    }
    place.parent().map_or(Ok(()), fs::create_dir_all)?;
    File::create(place).map(drop)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BindError + use<> {
    let path = path.to_owned();
    move |source| BindError::Io { path, source }
}
