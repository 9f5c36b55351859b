//! A claim's volume: a directory of this node, of an NFS server, or a driver's.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use api::node_selector::NodeSelection;
use api::volume::{LOCAL_PATH, PROVISIONED_BY};
use k8s_openapi::api::core::v1::PersistentVolume;
use machinery_client::ObjectKey;

use super::{Context, Made, VolumeError, export, host_path, nfs, of_driver, ownership};
use crate::csi::Wanted;
use crate::followed::{Kind, Source};

pub(super) async fn set_up(
    claim: &str,
    read_only: bool,
    path: &Path,
    context: Context<'_>,
) -> Result<Made, VolumeError> {
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
    if volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        return Err(VolumeError::Unsupported("of persistentvolumes of mode Block".to_owned()));
    }
    here(&volume, &name, context).await?;
    if let Some(source) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) {
        let wanted = Wanted::of_volume(&volume, source, read_only);
        let made = of_driver(&wanted, context).await?;
        context.csi.expand(&wanted, context.pod, (&volume, &found), context.cluster).await?;
        let key = ObjectKey::new(context.namespace(), claim);
        return Ok(Made { follows: Some(Source { kind: Kind::PersistentVolumeClaim, key }), ..made });
    }
    if let Some(source) = volume.spec.as_ref().and_then(|spec| spec.nfs.as_ref()) {
        let options = volume.spec.as_ref().and_then(|spec| spec.mount_options.as_deref()).unwrap_or_default();
        return nfs::mount(&export(source, read_only, options), path).await;
    }
    let made = directory(&volume)?;
    let local = volume.spec.as_ref().is_some_and(|spec| spec.local.is_some());
    // What hostPath shows is left as it is, as upstream does.
    if let Some(group) = context.owners().filter(|_| local && !read_only) {
        ownership::give(made.root.clone(), group).await.map_err(VolumeError::io("change the group of", &made.root))?;
    }
    Ok(made)
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
    let source = ["iscsi", "fc"].into_iter().find(|source| value.get(source).is_some());
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
