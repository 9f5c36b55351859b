//! What a container of a pod with its own users needs: its files shown as theirs, and at paths that they can walk.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, chown};

use super::user::Identity;
use crate::kernel;
use crate::layout::SandboxDir;
use crate::spec::{IdRange, SandboxSpec};

/// Directories that every host has and everybody may walk through. The first that does not hold the container's own
/// directory is hidden, in the helper's mount namespace, by what the container is made of.
const STAGES: [&str; 2] = ["/run", "/tmp"];

/// The users of a pod that has its own.
pub(super) struct Users {
    range: IdRange,
    namespace: File,
}

impl Users {
    pub(super) fn of(sandbox: &SandboxDir, spec: &SandboxSpec) -> io::Result<Option<Self>> {
        let open = |range| File::open(sandbox.userns()).map(|namespace| Self { range, namespace });
        spec.users.map(open).transpose()
    }

    /// Shows the files of a detached tree as the pod's.
    pub(super) fn show(&self, tree: &OwnedFd) -> io::Result<()> {
        kernel::map_users(tree, self.namespace.as_fd()).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => io::Error::new(
                io::ErrorKind::Unsupported,
                "its file system cannot be shown to a user namespace (idmapped mounts are not supported there)",
            ),
            _ => error,
        })
    }

    /// Makes root of the pod the owner.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        let (uid, gid) = self.on_the_node(0, 0)?;
        Ok(chown(path, Some(uid), Some(gid))?)
    }

    fn on_the_node(&self, uid: u32, gid: u32) -> io::Result<(Uid, Gid)> {
        on_the_node(self.range, uid, gid).ok_or_else(|| Errno::EINVAL.into())
    }

    /// Where a container that lies there can be made by its users.
    pub(super) fn stage(container: &Path) -> io::Result<PathBuf> {
        let container = container.canonicalize()?;
        let stages = STAGES.into_iter().filter_map(|stage| Path::new(stage).canonicalize().ok());
        let mut free = stages.filter(|stage| stage.is_dir() && !container.starts_with(stage));
        free.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("none of {STAGES:?} can be used")))
    }
}

/// Who somebody of the pod is to the node.
pub(super) fn outside(users: Option<IdRange>, identity: &Identity) -> Option<(Uid, Gid)> {
    match users {
        Some(range) => on_the_node(range, identity.uid, identity.gid),
        None => Some((Uid::from_raw(identity.uid), Gid::from_raw(identity.gid))),
    }
}

fn on_the_node(range: IdRange, uid: u32, gid: u32) -> Option<(Uid, Gid)> {
    let of = |id: u32| (id < range.length).then(|| range.first.checked_add(id)).flatten();
    Some((Uid::from_raw(of(uid)?), Gid::from_raw(of(gid)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_pod_are_others_to_the_node() {
        let somebody = |uid, gid| Identity { uid, gid, additional_gids: Vec::new(), home: String::new() };
        let range = Some(IdRange { first: 131_072, length: 65_536 });
        let ids = |uid: u32, gid: u32| Some((Uid::from_raw(uid), Gid::from_raw(gid)));
        assert_eq!(outside(None, &somebody(7, 8)), ids(7, 8));
        assert_eq!(outside(range, &somebody(7, 8)), ids(131_079, 131_080));
        assert_eq!(outside(range, &somebody(65_536, 0)), None, "not in the namespace");
        assert_eq!(outside(Some(IdRange { first: u32::MAX, length: 9 }), &somebody(1, 0)), None);
    }
}
