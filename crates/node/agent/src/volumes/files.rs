//! ConfigMap and Secret keys as files.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::KeyToPath;

use crate::volumes::{VolumeError, own};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct File<'a> {
    path: String,
    mode: u32,
    content: &'a [u8],
}

/// The files of `data`: all keys, or those that `items` name.
pub(super) fn select<'a>(
    kind: &'static str,
    data: &'a BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Vec<File<'a>>, VolumeError> {
    let bits = |mode: Option<i32>| mode.and_then(|mode| u32::try_from(mode).ok()).map(|mode| mode & 0o777);
    let default = bits(default_mode).unwrap_or(0o644);
    if items.is_empty() {
        let files = data.iter().map(|(key, content)| File { path: key.clone(), mode: default, content });
        return Ok(files.collect());
    }
    let mut files = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                files.push(File { path: item.path.clone(), mode: bits(item.mode).unwrap_or(default), content });
            }
            None if optional => {}
            None => return Err(VolumeError::NoKey(kind, item.key.clone())),
        }
    }
    Ok(files)
}

/// Makes `dir` hold exactly `files`.
pub(super) fn write(dir: &Path, files: &[File<'_>], group: Option<u32>) -> Result<(), VolumeError> {
    std::fs::create_dir_all(dir).map_err(VolumeError::io("create", dir))?;
    let mut kept = BTreeSet::new();
    for file in files {
        let parts: Vec<_> = Path::new(&file.path).components().collect();
        if parts.is_empty() || !parts.iter().all(|part| matches!(part, Component::Normal(_))) {
            return Err(VolumeError::Escapes(file.path.clone()));
        }
        let path = dir.join(&file.path);
        kept.insert(dir.join(parts[0]));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
        }
        std::fs::write(&path, file.content).map_err(VolumeError::io("write", &path))?;
        own(&path, group)?;
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .map_err(VolumeError::io("set the mode of", &path))?;
    }
    for entry in std::fs::read_dir(dir).map_err(VolumeError::io("read", dir))?.flatten() {
        let path = entry.path();
        if kept.contains(&path) {
            continue;
        }
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(VolumeError::io("remove", &path))?;
    }
    Ok(())
}
