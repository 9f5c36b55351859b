//! Keys as files, written so that a reader sees all of them as they were or all as they are.
//!
//! ```text
//! volume/..2f6c1e/token     the files
//! volume/..data ─▶ ..2f6c1e swapped in one rename
//! volume/token ─▶ ..data/token
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::KeyToPath;

use crate::volumes::{VolumeError, own};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) content: Vec<u8>,
}

pub(super) fn bits(mode: Option<i32>) -> Option<u32> {
    mode.and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o777)
}

/// The files of `data`: all keys, or those that `items` name.
pub(super) fn select(
    kind: &'static str,
    data: &BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    default: u32,
    optional: bool,
) -> Result<Vec<File>, VolumeError> {
    let file = |path: &String, mode, content: &Vec<u8>| File { path: path.clone(), mode, content: content.clone() };
    if items.is_empty() {
        return Ok(data.iter().map(|(key, content)| file(key, default, content)).collect());
    }
    let mut files = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => files.push(file(&item.path, bits(item.mode).unwrap_or(default), content)),
            None if optional => {}
            None => return Err(VolumeError::NoKey(kind, item.key.clone())),
        }
    }
    Ok(files)
}

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes `dir` hold exactly `files`; what holds them already is left alone, since programs watch for the swap.
pub(super) fn write(dir: &Path, files: &[File], group: Option<u32>) -> Result<(), VolumeError> {
    std::fs::create_dir_all(dir).map_err(VolumeError::io("create", dir))?;
    let mut shown = BTreeSet::new();
    for file in files {
        let mut parts = Path::new(&file.path).components();
        match parts.next() {
            Some(Component::Normal(first)) if !first.as_encoded_bytes().starts_with(b"..") => {
                shown.insert(first.to_owned());
            }
            _ => return Err(VolumeError::Escapes(file.path.clone())),
        }
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(VolumeError::Escapes(file.path.clone()));
        }
    }
    let mode = |file: &File| if group.is_some() { file.mode | 0o040 } else { file.mode };
    if holds(&dir.join(DATA), files, mode) {
        return Ok(());
    }
    let fresh = tempfile_in(dir)?;
    for file in files {
        let path = fresh.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
        }
        std::fs::write(&path, &file.content).map_err(VolumeError::io("write", &path))?;
        own(&path, group)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode(file)))
            .map_err(VolumeError::io("set the mode of", &path))?;
    }
    let next = dir.join(NEXT);
    let _ = std::fs::remove_file(&next); // of a writer that was cut short
    let target = fresh.file_name().unwrap_or_default();
    symlink(target, &next).map_err(VolumeError::io("link", &next))?;
    let data = dir.join(DATA);
    std::fs::rename(&next, &data).map_err(VolumeError::io("replace", &data))?;
    for name in &shown {
        let link = dir.join(name);
        if link.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            continue;
        }
        remove(&link)?;
        symlink(Path::new(DATA).join(name), &link).map_err(VolumeError::io("link", &link))?;
    }
    for entry in std::fs::read_dir(dir).map_err(VolumeError::io("read", dir))?.flatten() {
        let name = entry.file_name();
        if name != DATA && name != target && !shown.contains(&name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn holds(dir: &Path, files: &[File], mode: impl Fn(&File) -> u32) -> bool {
    let same = |file: &File| {
        let path = dir.join(&file.path);
        path.symlink_metadata().is_ok_and(|meta| {
            meta.is_file()
                && meta.len() == file.content.len() as u64
                && meta.permissions().mode() & 0o7777 == mode(file)
                && std::fs::read(&path).is_ok_and(|content| content == file.content)
        })
    };
    let paths: BTreeSet<_> = files.iter().map(|file| &file.path).collect();
    files.iter().all(same) && count(dir).is_ok_and(|there| there == paths.len())
}

/// Files below a directory, in its directories, too.
fn count(dir: &Path) -> std::io::Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

/// A directory of a name that is not taken.
fn tempfile_in(dir: &Path) -> Result<std::path::PathBuf, VolumeError> {
    let stamp = jiff::Timestamp::now().as_nanosecond();
    let path = dir.join(format!("..{stamp:x}"));
    std::fs::create_dir(&path).map_err(VolumeError::io("create", &path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .map_err(VolumeError::io("set the mode of", &path))?;
    Ok(path)
}

fn remove(path: &Path) -> Result<(), VolumeError> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(VolumeError::io("remove", path))
}
