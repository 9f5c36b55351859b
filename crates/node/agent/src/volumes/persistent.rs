//! A claim's volume: a directory of this node.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use api::node_selector::NodeSelection;
use api::volume::{LOCAL_PATH, PROVISIONED_BY};
use k8s_openapi::api::core::v1::PersistentVolume;

use super::{Context, Made, VolumeError, host_path};

pub(super) async fn set_up(claim: &str, context: Context<'_>) -> Result<Made, VolumeError> {
    let found = context.cluster.claim(context.namespace(), claim).await?;
    let found = found.ok_or_else(|| VolumeError::NoClaim(claim.to_owned()))?;
    let bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let name = found.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| bound && !name.is_empty());
    let name = name.ok_or(VolumeError::NotBound)?;
    let volume = context.cluster.volume(&name).await?.ok_or_else(|| VolumeError::NoVolume(name.clone()))?;
    let whose = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|whose| whose.uid.as_ref());
    if whose.is_none() || whose != found.metadata.uid.as_ref() {
        return Err(VolumeError::OtherClaim { volume: name, claim: claim.to_owned() });
    }
    here(&volume, &name, context).await?;
    directory(&volume)
}

/// The scheduler sees to it, but who names a node in the pod goes past it.
async fn here(volume: &PersistentVolume, name: &str, context: Context<'_>) -> Result<(), VolumeError> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { return Ok(()) };
    let (node, labels) = context.cluster.node().await?;
    match NodeSelection::required(required).matches(&node, &labels) {
        true => Ok(()),
        false => Err(VolumeError::OtherNode(name.to_owned())),
    }
}

fn directory(volume: &PersistentVolume) -> Result<Made, VolumeError> {
    let Some(spec) = &volume.spec else { return Err(VolumeError::NotBound) };
    if let Some(source) = &spec.host_path {
        let path = Path::new(&source.path);
        let annotations = volume.metadata.annotations.as_ref();
        if annotations.and_then(|all| all.get(PROVISIONED_BY)).is_some_and(|by| by == LOCAL_PATH) && !path.exists() {
            make(path).map_err(VolumeError::io("create", path))?;
        }
        return host_path(source).map(|()| Made::at(path));
    }
    if let Some(source) = &spec.local {
        return match Path::new(&source.path).is_dir() {
            true => Ok(Made::at(&source.path)),
            false => Err(VolumeError::NoPath(source.path.clone())),
        };
    }
    let value = serde_json::to_value(spec).unwrap_or_default();
    let source = ["csi", "nfs", "iscsi", "fc"].into_iter().find(|source| value.get(source).is_some());
    Err(VolumeError::Unsupported(source.unwrap_or("of this persistentvolume").to_owned()))
}

/// For whoever runs in the pod; the directory above lets nobody else of the node in.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
}
