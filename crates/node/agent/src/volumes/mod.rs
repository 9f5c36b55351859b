//! A pod's volumes: making them before its sandbox, and the mounts each container gets of them.
//!
//! emptyDir and hostPath as directories; configMap, secret, downwardAPI and projected as files that are replaced all at
//! once, also in running pods; anything else is refused by name.

mod empty_dir;
mod files;
mod image;
mod mounts;
mod nfs;
pub mod ownership;
mod persistent;
mod projected;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, NFSVolumeSource, Pod, Volume};

use crate::cluster::{Cluster, ClusterError};
use crate::csi::{Csi, CsiFailure, Step, Wanted};
use crate::env::EnvError;
use crate::followed::Source;

pub use empty_dir::{is_on_disk, limit_on_disk, used};
pub use image::mount as mount_image;
pub use mounts::mounts;
pub use projected::{follows_pod, sources};

use ownership::Group;

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
    #[error("missing value for {}", .0.join(", "))]
    NoValue(Vec<String>),
    #[error("volume {0:?} is not defined in the pod")]
    Undefined(String),
    #[error("cannot {operation} {path}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("persistentvolumeclaim {0:?} not found")]
    NoClaim(String),
    #[error("PVC is not bound")]
    NotBound,
    #[error("persistentvolume {0:?} not found")]
    NoVolume(String),
    #[error("persistentvolume {volume:?} is not bound to claim {claim:?}")]
    OtherClaim { volume: String, claim: String },
    #[error("no matching NodeSelectorTerms of persistentvolume {0:?}")]
    OtherNode(String),
    #[error("path {0:?} does not exist")]
    NoPath(String),
    #[error(transparent)]
    Csi(#[from] CsiFailure),
    /// As whoever mounts it tells.
    #[error("{0}")]
    Nfs(String),
    #[error("cannot read its source")]
    Cluster(#[from] ClusterError),
}

impl VolumeError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}

/// What a volume is made for and from.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub pod: &'a Pod,
    pub cluster: &'a dyn Cluster,
    pub csi: &'a Csi,
    /// CPU in thousandths and memory in bytes that the node's pods may use.
    pub allocatable: (i64, i64),
}

impl Context<'_> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Who shares the volumes, beside their owner.
    fn group(&self) -> Option<u32> {
        let security = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        security.and_then(|security| security.fs_group).and_then(|gid| u32::try_from(gid).ok())
    }

    /// The same for volumes that outlive the pod.
    fn owners(&self) -> Option<Group> {
        let security = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let policy = security.and_then(|security| security.fs_group_change_policy.as_deref());
        self.group().map(|id| Group { id, only_on_mismatch: policy == Some("OnRootMismatch") })
    }
}

/// A volume that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where what it holds is.
    pub root: PathBuf,
    /// Also where a container would write.
    pub read_only: bool,
    /// After how long to make it again: tokens age.
    pub due: Option<Duration>,
    /// What it is to be made again after, beside what [`sources`] tells.
    pub follows: Option<Source>,
}

impl Made {
    fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), read_only: false, due: None, follows: None }
    }
}

/// Makes the volume, at `path` where it is the pod's own, or brings it up to date.
pub async fn set_up(volume: &Volume, path: &Path, context: Context<'_>) -> Result<Made, VolumeError> {
    let group = context.group();
    if let Some(source) = &volume.empty_dir {
        let spec = context.pod.spec.as_ref();
        return empty_dir::set_up(source, path, spec, group, context.allocatable.1).map(|()| Made::at(path));
    }
    if let Some(source) = &volume.host_path {
        return host_path(source).map(|()| Made::at(&source.path));
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only == Some(true);
        let made = Box::pin(persistent::set_up(&source.claim_name, read_only, path, context)).await?;
        return Ok(Made { read_only: read_only || made.read_only, ..made });
    }
    if volume.ephemeral.is_some() {
        let pod = context.pod.metadata.name.as_deref().unwrap_or_default();
        let claim = api::volume::own_claim(pod, &volume.name);
        return Box::pin(persistent::set_up(&claim, false, path, context)).await;
    }
    if let Some(source) = &volume.nfs {
        return Box::pin(nfs::mount(&export(source, false, &[]), path)).await;
    }
    if let Some(source) = &volume.csi {
        return of_driver(&Wanted::of_pod(context.pod, &volume.name, source), context).await;
    }
    let (files, due) = match projected::single(volume) {
        Some((projection, mode)) => (projected::of(&projection, mode, context).await?.0, None),
        None => match &volume.projected {
            Some(source) => projected::files(source, context).await?,
            None => return Err(VolumeError::Unsupported(kind(volume))),
        },
    };
    // What the API server wrote is not the container's to change.
    files::write(path, &files, group).map(|()| Made { read_only: true, due, ..Made::at(path) })
}

fn export(source: &NFSVolumeSource, read_only: bool, options: &[String]) -> nfs::Export {
    nfs::Export {
        server: source.server.clone(),
        path: source.path.clone(),
        read_only: read_only || source.read_only == Some(true),
        options: options.to_vec(),
    }
}

async fn of_driver(wanted: &Wanted, context: Context<'_>) -> Result<Made, VolumeError> {
    let published = Box::pin(context.csi.mount(wanted, context.pod, context.owners(), context.cluster)).await?;
    Ok(Made { read_only: published.read_only, due: published.due, ..Made::at(published.path) })
}

/// Whether something must be told when the pod no longer has the volume.
pub fn held_by_driver(volume: &Volume) -> bool {
    volume.csi.is_some() || volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// What an Event says that has failed, and of which volume.
pub fn failed_step<'a>(volume: &'a str, error: &'a VolumeError) -> (&'static str, &'a str) {
    match error {
        VolumeError::Csi(failure) => match failure.step {
            Step::MountDevice => ("MountDevice", &failure.volume),
            Step::SetUp => ("SetUp", &failure.volume),
            Step::NodeExpand => ("NodeExpandVolume", &failure.volume),
        },
        _ => ("SetUp", volume),
    }
}

fn is_mounted(path: &Path) -> Result<bool, VolumeError> {
    let path = path.canonicalize().map_err(VolumeError::io("resolve", path))?;
    base_sys::mounts::is_mounted(&path).map_err(VolumeError::io("read the mounts at", &path))
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
