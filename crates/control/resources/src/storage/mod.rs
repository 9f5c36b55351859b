//! `storage.k8s.io/v1`.

pub(crate) mod csi_driver;
pub(crate) mod csi_node;
pub(crate) mod csi_storage_capacity;
pub(crate) mod storage_class;
pub(crate) mod volume_attachment;
pub(crate) mod volume_attributes_class;

use std::sync::Arc;

use machinery_registry::Resource;

use crate::{Error, Load};

pub(crate) async fn load(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    Ok(vec![
        load.erased("storageclasses", storage_class::StorageClassStrategy).await?,
        load.erased("volumeattachments", volume_attachment::VolumeAttachmentStrategy).await?,
        load.erased("csidrivers", csi_driver::CsiDriverStrategy).await?,
        load.erased("csinodes", csi_node::CsiNodeStrategy).await?,
        load.erased("csistoragecapacities", csi_storage_capacity::CsiStorageCapacityStrategy).await?,
        load.erased("volumeattributesclasses", volume_attributes_class::VolumeAttributesClassStrategy).await?,
    ])
}
