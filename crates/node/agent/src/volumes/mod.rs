//! A pod's volumes: making them before its sandbox, and the mounts each container gets of them.
//!
//! emptyDir and hostPath as directories; configMap, secret, downwardAPI and projected as files that are replaced all at
//! once; anything else is refused by name.

mod files;
mod projected;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HostPathVolumeSource, Pod, Volume};

use crate::cluster::{Cluster, ClusterError};
use crate::env::{EnvError, Sources};
use crate::seams::{Mount, Propagation};

/// Why a volume cannot be set up; the message follows `MountVolume.SetUp failed for volume "x" : `.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume type {0} is not supported by this node")]
    Unsupported(String),
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    HostPathType { path: String, wanted: &'static str },
    #[error(transparent)]
    Missing(#[from] EnvError),
    #[error("references non-existent {0} key: {1}")]
    NoKey(&'static str, String),
    #[error("path {0:?} leaves the volume")]
    Escapes(String),
    #[error("volume {0:?} is not defined in the pod")]
    Undefined(String),
    #[error("cannot {operation} {path}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot read its source")]
    Cluster(#[from] ClusterError),
}

impl VolumeError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}

/// Sets up every volume below `dir`; the first failure carries the volume's name. Answers after how long to do it
/// again: tokens age.
pub async fn set_up(pod: &Pod, dir: &Path, cluster: &dyn Cluster) -> Result<Option<Duration>, (String, VolumeError)> {
    let spec = pod.spec.as_ref();
    let fs_group = spec.and_then(|spec| spec.security_context.as_ref()).and_then(|security| security.fs_group);
    let group = fs_group.and_then(|gid| u32::try_from(gid).ok());
    let mut due = None;
    for volume in spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
        let path = dir.join(&volume.name);
        let named = |error| (volume.name.clone(), error);
        if let Some(source) = &volume.projected {
            let (files, after) = projected::files(source, pod, group, cluster).await.map_err(named)?;
            files::write(&path, &files, group).map_err(named)?;
            due = due.into_iter().chain(after).min();
        } else {
            one(volume, &path, pod, group, cluster).await.map_err(named)?;
        }
    }
    Ok(due)
}

async fn one(
    volume: &Volume,
    path: &Path,
    pod: &Pod,
    group: Option<u32>,
    cluster: &dyn Cluster,
) -> Result<(), VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if volume.empty_dir.is_some() {
        std::fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        own(path, group)?;
        return std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(VolumeError::io("set the mode of", path));
    }
    if let Some(source) = &volume.host_path {
        return host_path(source);
    }
    if let Some(source) = &volume.config_map {
        let sources = Sources::read(BTreeSet::from([source.name.clone()]), BTreeSet::new(), namespace, cluster).await?;
        let optional = source.optional == Some(true);
        let data = match sources.config_map(&source.name) {
            Err(_) if optional => return files::write(path, &[], group),
            other => other?,
        };
        let items = source.items.as_deref().unwrap_or_default();
        let files = files::select("ConfigMap", data, items, source.default_mode, optional)?;
        return files::write(path, &files, group);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        let sources = Sources::read(BTreeSet::new(), BTreeSet::from([name.clone()]), namespace, cluster).await?;
        let optional = source.optional == Some(true);
        let data = match sources.secret(&name) {
            Err(_) if optional => return files::write(path, &[], group),
            other => other?,
        };
        let items = source.items.as_deref().unwrap_or_default();
        let files = files::select("Secret", data, items, source.default_mode, optional)?;
        return files::write(path, &files, group);
    }
    if let Some(source) = &volume.downward_api {
        let mode = files::bits(source.default_mode).unwrap_or(0o644);
        let files = projected::downward_files(source.items.as_deref().unwrap_or_default(), mode, pod)?;
        return files::write(path, &files, group);
    }
    Err(VolumeError::Unsupported(kind(volume)))
}

fn own(path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    match group {
        Some(_) => std::os::unix::fs::chown(path, None, group).map_err(VolumeError::io("change the group of", path)),
        None => Ok(()),
    }
}

/// The field that is set besides the name.
fn kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let fields = value.as_object().into_iter().flat_map(serde_json::Map::keys);
    fields.into_iter().find(|key| *key != "name").cloned().unwrap_or_else(|| "unknown".into())
}

fn host_path(source: &HostPathVolumeSource) -> Result<(), VolumeError> {
    let path = Path::new(&source.path);
    let wanted = match source.type_.as_deref().unwrap_or_default() {
        "" => return Ok(()),
        "DirectoryOrCreate" => {
            if !path.exists() {
                std::fs::create_dir_all(path).map_err(VolumeError::io("create", path))?;
            }
            "directory"
        }
        "Directory" => "directory",
        "FileOrCreate" => {
            if !path.exists() {
                std::fs::File::create(path).map_err(VolumeError::io("create", path))?;
            }
            "file"
        }
        "File" => "file",
        "Socket" => "socket file",
        "CharDevice" => "character device",
        "BlockDevice" => "block device",
        other => return Err(VolumeError::Unsupported(format!("hostPath of type {other}"))),
    };
    use std::os::unix::fs::FileTypeExt;
    let fits = std::fs::metadata(path).is_ok_and(|meta| match wanted {
        "directory" => meta.is_dir(),
        "file" => meta.is_file(),
        "socket file" => meta.file_type().is_socket(),
        "character device" => meta.file_type().is_char_device(),
        _ => meta.file_type().is_block_device(),
    });
    if fits { Ok(()) } else { Err(VolumeError::HostPathType { path: source.path.clone(), wanted }) }
}

/// The mounts of one container, in the order of its volumeMounts.
pub fn mounts(pod: &Pod, container: &Container, dir: &Path) -> Result<Vec<Mount>, VolumeError> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| VolumeError::Undefined(mount.name.clone()))?;
        let root = match &volume.host_path {
            Some(source) => PathBuf::from(&source.path),
            None => dir.join(&volume.name),
        };
        let source = match mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => sub_path(&root, path, volume.host_path.is_none())?,
            None => root,
        };
        // What the API server wrote is not the container's to change.
        let managed = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some();
        mounts.push(Mount {
            source,
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true) || managed,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::Private,
            },
        });
    }
    Ok(mounts)
}

/// A path inside a volume; a link that leads out of the volume is refused.
fn sub_path(root: &Path, path: &str, create: bool) -> Result<PathBuf, VolumeError> {
    let escapes = || VolumeError::Escapes(path.to_owned());
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(escapes());
    }
    let full = root.join(path);
    if create && !full.exists() {
        std::fs::create_dir_all(&full).map_err(VolumeError::io("create", &full))?;
    }
    let root = root.canonicalize().map_err(VolumeError::io("resolve", root))?;
    let full = full.canonicalize().map_err(VolumeError::io("resolve", &full))?;
    if full.starts_with(root) { Ok(full) } else { Err(escapes()) }
}
