//! A volume that has grown: what is on it grows after it, here on the node.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use machinery_client::{EventKind, ObjectKey};
use node_grpc::messages::csi::{
    Capability, CapacityRange, NODE_EXPAND_VOLUME, NodeExpandVolumeRequest, NodeExpandVolumeResponse,
};
use serde_json::{Value, json};

use super::Csi;
use super::error::{CsiError, CsiFailure, Step};
use super::mount::secrets;
use super::request::Wanted;
use crate::cluster::{Cluster, Report};
use crate::container::resources::parse;

/// What the claim says for as long as only the node's part is left.
const OVER: [&str; 2] = ["FileSystemResizePending", "Resizing"];

/// The volume's size, where its claim does not know of it.
fn grown<'a>(volume: &'a PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'a Quantity> {
    let bytes = |quantity: &Quantity| parse(quantity).map(|quantity| quantity.value());
    let size = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    let known = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
    (bytes(size)? > bytes(known)?).then_some(size)
}

/// What the claim's status is to say from now on.
fn status(claim: &PersistentVolumeClaim, size: &Quantity) -> Value {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let left: Vec<_> = conditions.filter(|condition| !OVER.contains(&condition.type_.as_str())).collect();
    json!({"capacity": {"storage": size}, "conditions": left, "allocatedResourceStatuses": {"storage": null}})
}

impl Csi {
    /// Grows what is on a volume that is published for the pod. A driver that need not do anything on the node has its
    /// controller say that it is done.
    pub async fn expand(
        &self,
        wanted: &Wanted,
        pod: &k8s_openapi::api::core::v1::Pod,
        (volume, claim): (&PersistentVolume, &PersistentVolumeClaim),
        cluster: &dyn Cluster,
    ) -> Result<(), CsiFailure> {
        let Some(size) = grown(volume, claim).filter(|_| !wanted.read_only) else { return Ok(()) };
        let failure = |error| CsiFailure { step: Step::NodeExpand, volume: wanted.name.clone(), error };
        let _lock = self.locks.lock(&wanted.id).await;
        let driver = self.driver(&wanted.id.driver).map_err(failure)?;
        if !driver.can(Capability::ExpandVolume) {
            return Ok(());
        }
        let staging = match driver.can(Capability::StageUnstageVolume) {
            true => self.layout.staged(&wanted.id).mount().to_string_lossy().into_owned(),
            false => String::new(),
        };
        let place = self.layout.published(pod.metadata.uid.as_deref().unwrap_or_default(), &wanted.name);
        let secrets = secrets(wanted.expand_secret.as_ref(), cluster).await.map_err(failure)?;
        let request = NodeExpandVolumeRequest {
            volume_id: wanted.id.handle.clone(),
            volume_path: place.mount().to_string_lossy().into_owned(),
            capacity_range: Some(CapacityRange {
                required_bytes: parse(size).map_or(0, |size| size.value()),
                limit_bytes: 0,
            }),
            staging_target_path: staging,
            volume_capability: Some(wanted.capability(&driver, None)),
            secrets,
        };
        let expanded = driver.call::<NodeExpandVolumeResponse>(NODE_EXPAND_VOLUME, &request).await;
        expanded.map_err(|status| failure(CsiError::Call(status)))?;
        let told = cluster.patch_claim(&ObjectKey::of(claim), status(claim, size)).await;
        told.map_err(|error| failure(error.into()))?;
        let message =
            format!("MountVolume.NodeExpandVolume succeeded for volume {:?} {}", wanted.name, self.attachments.node());
        let (kind, reason) = (EventKind::Normal, "FileSystemResizeSuccessful");
        cluster.report(pod, &Report { container: None, kind, reason, message: &message });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_knows_a_smaller_volume_is_told_once_what_is_on_it_has_grown() {
        let volume = |size: &str| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).unwrap()
        };
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"status": {"capacity": {"storage": "1Gi"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]}}))
        .unwrap();
        assert_eq!(grown(&volume("1024Mi"), &claim), None);
        let two = volume("2Gi");
        let size = grown(&two, &claim).unwrap();
        let said = status(&claim, size);
        assert_eq!(said["capacity"]["storage"], "2Gi");
        assert_eq!(said["conditions"], json!([{"type": "Other", "status": "True"}]));
        assert_eq!(grown(&two, &PersistentVolumeClaim::default()), None);
    }
}
