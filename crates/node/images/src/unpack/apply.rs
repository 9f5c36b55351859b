//! Walks the archive of one layer and applies its entries to a [`Tree`].

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::tree::{Meta, Node, Tree};

#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The archive or its compression is cut short or garbled.
    #[error("read layer")]
    Read(#[source] io::Error),
    #[error("write layer: {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("layer digest is {actual}, not {expected}")]
    Digest { expected: String, actual: String },
    /// An entry that would reach outside the layer, or that only an attacker writes.
    #[error("refuse layer entry {}: {reason}", path.display())]
    Hostile { path: PathBuf, reason: &'static str },
    #[error("layer has more than {limit} {what}")]
    TooLarge { limit: u64, what: &'static str },
}

impl LayerError {
    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

pub struct Limits {
    /// Uncompressed bytes of files.
    pub bytes: u64,
    pub entries: u64,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

pub fn apply(stream: impl Read, tree: &mut Tree, limits: &Limits) -> Result<(), LayerError> {
    let mut budget = limits.bytes;
    let mut archive = Archive::new(stream);
    for (count, entry) in (0u64..).zip(archive.entries().map_err(LayerError::Read)?) {
        if count == limits.entries {
            return Err(LayerError::TooLarge { limit: limits.entries, what: "entries" });
        }
        let mut entry = entry.map_err(LayerError::Read)?;
        let written = one(&mut entry, tree, budget)?;
        budget = budget.checked_sub(written).ok_or(LayerError::TooLarge { limit: limits.bytes, what: "bytes" })?;
    }
    tree.finish().map_err(LayerError::write("directory times"))
}

/// Applies one entry; returns how many bytes of content it wrote, more than `budget` when it stopped there.
fn one<R: Read>(entry: &mut Entry<'_, R>, tree: &mut Tree, budget: u64) -> Result<u64, LayerError> {
    let path = entry.path().map_err(LayerError::Read)?.into_owned();
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(0);
    }
    let names = names(&path)?;
    let meta = meta(entry).map_err(LayerError::Read)?;
    let failed = || LayerError::write(path.clone());
    let Some((name, parent)) = names.split_last() else {
        // "./": the root of the layer itself.
        if kind != EntryType::Directory {
            return Err(LayerError::Hostile { path, reason: "the root is not a directory" });
        }
        tree.root(&meta).map_err(failed())?;
        return Ok(0);
    };
    if name.as_bytes() == OPAQUE {
        tree.opaque(parent).map_err(failed())?;
        return Ok(0);
    }
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(LayerError::Hostile { path, reason: "whiteout without a name" });
        }
        // Names with a second prefix are AUFS's own book-keeping.
        if !hidden.starts_with(WHITEOUT) {
            tree.whiteout(parent, OsStr::from_bytes(hidden)).map_err(failed())?;
        }
        return Ok(0);
    }
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = tree.file(parent, name).map_err(failed())?;
            let written = copy(entry, &mut file, budget, &path)?;
            tree.complete_file(file, &meta).map_err(failed())?;
            return Ok(written);
        }
        EntryType::Directory => tree.directory(parent, name, &meta),
        EntryType::Symlink => {
            let target = link_name(entry, &path)?;
            tree.node(parent, name, Node::Symlink(&target), &meta)
        }
        EntryType::Link => {
            let target = link_name(entry, &path)?;
            let target = names_of_link(&path, &target)?;
            tree.hard_link(parent, name, &target)
        }
        EntryType::Char | EntryType::Block => {
            let header = entry.header();
            let (major, minor) = (header.device_major(), header.device_minor());
            let (Ok(Some(major)), Ok(Some(minor))) = (major, minor) else {
                return Err(LayerError::Hostile { path, reason: "device without a number" });
            };
            let device = rustix::fs::makedev(major, minor);
            let node = if kind == EntryType::Char { Node::Char(device) } else { Node::Block(device) };
            tree.node(parent, name, node, &meta)
        }
        EntryType::Fifo => tree.node(parent, name, Node::Fifo, &meta),
        _ => return Err(LayerError::Hostile { path, reason: "unknown type of entry" }),
    }
    .map_err(failed())?;
    Ok(0)
}

/// The components of a path below the layer's root. Leading slashes are the root, as in every other unpacker.
fn names(path: &Path) -> Result<Vec<std::ffi::OsString>, LayerError> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(LayerError::Hostile { path: path.to_owned(), reason: "the path contains \"..\"" });
            }
        }
    }
    Ok(names)
}

fn names_of_link(path: &Path, target: &Path) -> Result<Vec<std::ffi::OsString>, LayerError> {
    let hostile = |reason| LayerError::Hostile { path: path.to_owned(), reason };
    let names = names(target).map_err(|_| hostile("the hard link's target contains \"..\""))?;
    if names.is_empty() {
        return Err(hostile("hard link to the root"));
    }
    Ok(names)
}

fn link_name<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, LayerError> {
    match entry.link_name().map_err(LayerError::Read)? {
        Some(target) => Ok(target.into_owned()),
        None => Err(LayerError::Hostile { path: path.to_owned(), reason: "link without a target" }),
    }
}

/// Copies content, with errors of the archive told from errors of the disk.
fn copy(from: &mut impl Read, to: &mut std::fs::File, budget: u64, path: &Path) -> Result<u64, LayerError> {
    let mut buffer = vec![0; 1 << 16];
    let mut written = 0;
    while written <= budget {
        let read = from.read(&mut buffer).map_err(LayerError::Read)?;
        if read == 0 {
            break;
        }
        to.write_all(&buffer[..read]).map_err(LayerError::write(path))?;
        written += read as u64;
    }
    Ok(written)
}

fn meta<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Meta> {
    let header = entry.header();
    let raw = header.as_old();
    let id = |field: &[u8], value: io::Result<u64>| {
        u32::try_from(unless_blank(field, value)?).map_err(|_| io::Error::other("user or group id out of range"))
    };
    let mut meta = Meta {
        mode: header.mode()? & 0o7777,
        uid: id(&raw.uid, header.uid())?,
        gid: id(&raw.gid, header.gid())?,
        seconds: unless_blank(&raw.mtime, header.mtime())?.try_into().unwrap_or(0),
        nanoseconds: 0,
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions()? else { return Ok(meta) };
    for extension in extensions {
        let extension = extension?;
        let (Ok(key), value) = (extension.key(), extension.value_bytes()) else { continue };
        match key {
            "mtime" => (meta.seconds, meta.nanoseconds) = time(value).unwrap_or((meta.seconds, 0)),
            _ => {
                // Overlay's own attributes in an archive would forge whiteouts or redirects.
                if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    && !name.starts_with("trusted.")
                {
                    meta.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
    }
    Ok(meta)
}

/// Builders may leave a numeric field blank, which is zero.
fn unless_blank(field: &[u8], value: io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { value }
}

/// `seconds[.fraction]` of a PAX record.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_fraction() {
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12.0123456789"), Some((12, 12_345_678)));
        assert_eq!(time(b"x"), None);
    }
}
