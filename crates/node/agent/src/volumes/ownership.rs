//! Volumes that pods of a group share: everything in them is the group's, to read and to write.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// A pod's `fsGroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: u32,
    /// A volume whose root is the group's already is left as it is.
    pub only_on_mismatch: bool,
}

/// For all: read and write; for directories also: enter, and what is made in them is the group's.
const FILE: u32 = 0o660;
const DIRECTORY: u32 = FILE | 0o2110;

/// Gives the group what is there; away from the workers of the runtime, since it may take its time.
pub async fn give(root: PathBuf, group: Group) -> io::Result<()> {
    tokio::task::spawn_blocking(move || give_now(&root, group)).await.map_err(io::Error::other)?
}

fn give_now(root: &Path, group: Group) -> io::Result<()> {
    let meta = root.symlink_metadata()?;
    if group.only_on_mismatch && meta.gid() == group.id && meta.permissions().mode() & DIRECTORY == DIRECTORY {
        return Ok(());
    }
    // The root last: a walk that is cut short is begun anew.
    let mut left = vec![root.to_owned()];
    let mut directories = Vec::new();
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => left.push(entry.path()),
                false => one(&entry.path(), group.id)?,
            }
        }
        directories.push(dir);
    }
    directories.iter().rev().try_for_each(|dir| one(dir, group.id))
}

fn one(path: &Path, group: u32) -> io::Result<()> {
    let meta = path.symlink_metadata()?;
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let added = if meta.is_dir() { DIRECTORY } else { FILE };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode((meta.permissions().mode() | added) & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &Path) -> (u32, u32) {
        let meta = path.symlink_metadata().unwrap();
        (meta.gid(), meta.permissions().mode() & 0o7777)
    }

    #[test]
    fn everything_is_given_to_the_group_unless_the_root_is_already() {
        let dir = tempfile::tempdir().unwrap();
        let (root, sub) = (dir.path().join("v"), dir.path().join("v/sub"));
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        mode(&root, 0o755);
        mode(&sub, 0o700);
        mode(&sub.join("file"), 0o604);
        let before = shown(Path::new("/etc/passwd"));
        give_now(&root, Group { id: 4321, only_on_mismatch: true }).unwrap();
        assert_eq!(shown(&root), (4321, 0o2775));
        assert_eq!(shown(&sub), (4321, 0o2770));
        assert_eq!(shown(&sub.join("file")), (4321, 0o664));
        assert_eq!(shown(&root.join("link")).0, 4321);
        assert_eq!(shown(Path::new("/etc/passwd")), before, "links are not followed");
        mode(&sub.join("file"), 0o600);
        give_now(&root, Group { id: 4321, only_on_mismatch: true }).unwrap();
        assert_eq!(shown(&sub.join("file")).1, 0o600, "the root is as it should be");
        give_now(&root, Group { id: 4321, only_on_mismatch: false }).unwrap();
        assert_eq!(shown(&sub.join("file")).1, 0o660);
    }
}
