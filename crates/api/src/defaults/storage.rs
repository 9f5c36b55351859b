//! `storage.k8s.io/v1`.

use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};

use super::pointer;

pub fn storage_class(class: &mut StorageClass) {
    pointer(&mut class.reclaim_policy, "Delete".to_owned());
    pointer(&mut class.volume_binding_mode, "Immediate".to_owned());
}

pub fn csi_driver(driver: &mut CSIDriver) {
    let spec = &mut driver.spec;
    pointer(&mut spec.attach_required, true);
    pointer(&mut spec.pod_info_on_mount, false);
    pointer(&mut spec.storage_capacity, false);
    pointer(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType".to_owned());
    if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
        spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
    }
    pointer(&mut spec.requires_republish, false);
    pointer(&mut spec.se_linux_mount, false);
}
