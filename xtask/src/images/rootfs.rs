//! A root file system in memory, filled from package archives.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tar::EntryType;

use super::packages::output;

/// Entries by path from the root, without a leading slash: parents sort before their children.
#[derive(Default)]
pub struct Rootfs(BTreeMap<PathBuf, Entry>);

pub struct Entry {
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub node: Node,
}

pub enum Node {
    Directory,
    File(Vec<u8>),
    Symlink(PathBuf),
}

/// What no container reads.
const PRUNED: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/menu",
    "usr/share/bash-completion",
    "usr/share/vim",
    "usr/share/i18n",
    "usr/share/zsh",
    "usr/share/initramfs-tools",
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/gconv",
    "usr/lib/locale",
    "etc/init.d",
    "etc/ufw",
    "etc/logrotate.d",
    "etc/cron.daily",
    "etc/default",
    "usr/share/apport",
    "usr/share/initramfs-tools",
];

impl Rootfs {
    /// The directories every container expects, with Debian's merged /usr.
    pub fn base() -> Self {
        let mut rootfs = Self::default();
        for directory in ["dev", "etc", "home", "mnt", "opt", "proc", "run", "srv", "sys", "var/log", "var/cache"] {
            rootfs.directory(directory, 0o755);
        }
        for directory in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"] {
            rootfs.directory(directory, 0o755);
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            rootfs.link(name, &format!("usr/{name}"));
        }
        rootfs.directory("tmp", 0o1777);
        rootfs.directory("var/tmp", 0o1777);
        rootfs.directory("root", 0o700);
        rootfs.link("var/run", "/run");
        rootfs.file("etc/passwd", 0o644, include_str!("recipes/passwd"));
        rootfs.file("etc/group", 0o644, include_str!("recipes/group"));
        rootfs.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n");
        rootfs
    }

    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(Path::new(path))
    }

    pub fn content(&self, path: &str) -> Result<&[u8]> {
        match self.0.get(Path::new(path)).map(|entry| &entry.node) {
            Some(Node::File(content)) => Ok(content),
            _ => bail!("no file {path} in the image"),
        }
    }

    pub fn directory(&mut self, path: &str, mode: u32) {
        self.put(Path::new(path), Entry { mode, uid: 0, gid: 0, node: Node::Directory });
    }

    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.put(Path::new(path), Entry { mode, uid: 0, gid: 0, node: Node::File(content.into()) });
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.put(Path::new(path), Entry { mode: 0o777, uid: 0, gid: 0, node: Node::Symlink(target.into()) });
    }

    pub fn remove(&mut self, path: &str) {
        self.0.retain(|entry, _| !entry.starts_with(path));
    }

    /// Puts an entry, with the parents it lacks.
    fn put(&mut self, path: &Path, entry: Entry) {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.0.entry(parent.to_owned()).or_insert(Entry { mode: 0o755, uid: 0, gid: 0, node: Node::Directory });
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Adds the files of a package. No script of it runs.
    pub fn unpack(&mut self, package: &Path) -> Result<()> {
        let tar = output(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package))?;
        self.add(Cursor::new(tar)).with_context(|| format!("unpack {}", package.display()))
    }

    fn add(&mut self, tar: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = merged(&entry.path()?);
            if path.as_os_str().is_empty() || PRUNED.iter().any(|pruned| path.starts_with(pruned)) {
                continue;
            }
            let header = entry.header();
            let (mode, uid, gid) = (header.mode()? & 0o7777, header.uid()?, header.gid()?);
            let node = match header.entry_type() {
                // A directory that is there keeps what it is: /bin of a package is our link.
                EntryType::Directory if self.0.contains_key(&path) => continue,
                EntryType::Directory => Node::Directory,
                EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    Node::File(content)
                }
                EntryType::Symlink => Node::Symlink(entry.link_name()?.context("link without a target")?.into_owned()),
                EntryType::Link => {
                    let target = merged(&entry.link_name()?.context("link without a target")?);
                    match self.0.get(&target).map(|entry| &entry.node) {
                        Some(Node::File(content)) => Node::File(content.clone()),
                        _ => bail!("{} is a hard link to {}, which is missing", path.display(), target.display()),
                    }
                }
                other => bail!("{} is of type {other:?}", path.display()),
            };
            self.put(&path, Entry { mode, uid, gid, node });
        }
        Ok(())
    }
}

/// The path in a merged /usr: `./bin/sh` is `usr/bin/sh`.
fn merged(path: &Path) -> PathBuf {
    let names: Vec<_> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    match names.first().and_then(|name| name.to_str()) {
        Some("bin" | "sbin" | "lib" | "lib64") => Path::new("usr").join(names.iter().collect::<PathBuf>()),
        _ => names.iter().collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packages_land_in_the_merged_usr() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(2);
        tar.append_data(&mut header, "./bin/sh", &b"sh"[..]).unwrap();
        header.set_size(3);
        tar.append_data(&mut header, "./usr/share/doc/x/copyright", &b"doc"[..]).unwrap();
        let mut rootfs = Rootfs::base();
        rootfs.add(Cursor::new(tar.into_inner().unwrap())).unwrap();
        assert_eq!(rootfs.content("usr/bin/sh").unwrap(), b"sh");
        assert!(!rootfs.contains("usr/share/doc/x/copyright"));
        assert!(rootfs.content("bin/sh").is_err());
    }
}
