//! Volumes of the cluster and claims on them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{pointer, text};

pub fn persistent_volume(volume: &mut PersistentVolume) {
    text(&mut volume.status.get_or_insert_default().phase, "Pending");
    let spec = volume.spec.get_or_insert_default();
    text(&mut spec.persistent_volume_reclaim_policy, "Retain");
    pointer(&mut spec.volume_mode, "Filesystem".to_owned());
    if let Some(host_path) = &mut spec.host_path {
        pointer(&mut host_path.type_, String::new());
    }
    if let Some(iscsi) = &mut spec.iscsi {
        text(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut spec.rbd {
        text(&mut rbd.pool, "rbd");
        text(&mut rbd.user, "admin");
        text(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut spec.azure_disk {
        pointer(&mut disk.caching_mode, "ReadWrite".to_owned());
        pointer(&mut disk.kind, "Shared".to_owned());
        pointer(&mut disk.fs_type, "ext4".to_owned());
        pointer(&mut disk.read_only, false);
    }
    if let Some(scale_io) = &mut spec.scale_io {
        text(&mut scale_io.storage_mode, "ThinProvisioned");
        text(&mut scale_io.fs_type, "xfs");
    }
}

pub fn persistent_volume_claim(claim: &mut PersistentVolumeClaim) {
    text(&mut claim.status.get_or_insert_default().phase, "Pending");
    pointer(&mut claim.spec.get_or_insert_default().volume_mode, "Filesystem".to_owned());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_volume_is_when_it_does_not_say() {
        let mut object: PersistentVolume =
            serde_json::from_value(json!({"spec": {"hostPath": {"path": "/x"}}})).expect("a volume");
        persistent_volume(&mut object);
        let value = serde_json::to_value(&object).expect("JSON");
        assert_eq!(
            value["spec"],
            json!({"hostPath": {"path": "/x", "type": ""}, "persistentVolumeReclaimPolicy": "Retain",
                "volumeMode": "Filesystem"})
        );
        assert_eq!(value["status"]["phase"], "Pending");
    }
}
