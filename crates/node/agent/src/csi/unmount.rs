//! Taking volumes of drivers away: from a pod that ends, and from the node once no pod has them.

use std::sync::Arc;

use api::csi::{Handle, unique_name};
use node_grpc::messages::csi::{
    Capability, Empty, NODE_UNPUBLISH_VOLUME, NODE_UNSTAGE_VOLUME, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};

use super::Csi;
use super::error::CsiError;
use super::place::{Phase, Place, Record};
use crate::seams::chain;
use crate::state::{RETRY_INITIAL, RETRY_MAX};

impl Csi {
    /// Whether drivers hold, or may hold, something for the pod.
    pub fn holds(&self, uid: &str) -> bool {
        self.layout.holds(uid)
    }

    /// Takes all volumes of a pod away that drivers have published for it; its containers are gone.
    pub async fn release(&self, uid: &str) -> Result<(), CsiError> {
        let mut first = Ok(());
        for (place, record) in self.layout.all_published(uid) {
            let released = self.unpublish(&place, &record).await;
            first = first.and(released);
        }
        first?;
        let forgotten = self.layout.forget(uid);
        forgotten.map_err(CsiError::io("remove the directories of pod", std::path::Path::new(uid)))
    }

    async fn unpublish(&self, place: &Place, record: &Record) -> Result<(), CsiError> {
        let id = record.id();
        let _lock = self.locks.lock(&id).await;
        let path = place.mount();
        if record.phase != Phase::Awaited {
            let request = NodeUnpublishVolumeRequest {
                volume_id: record.volume_handle.clone(),
                target_path: path.to_string_lossy().into_owned(),
            };
            self.driver(&id.driver)?.call::<Empty>(NODE_UNPUBLISH_VOLUME, &request).await?;
        }
        place.remove().map_err(CsiError::io("remove", &path))?;
        self.leave(&id).await
    }

    /// After the last pod of the node. The volume is locked.
    async fn leave(&self, id: &Handle) -> Result<(), CsiError> {
        if self.layout.is_used(id) {
            return Ok(());
        }
        let place = self.layout.staged(id);
        let path = place.mount();
        if place.recorded().map_err(CsiError::io("read the record of", &path))?.is_some() {
            let driver = self.driver(&id.driver)?;
            if driver.can(Capability::StageUnstageVolume) {
                let request = NodeUnstageVolumeRequest {
                    volume_id: id.handle.clone(),
                    staging_target_path: path.to_string_lossy().into_owned(),
                };
                driver.call::<Empty>(NODE_UNSTAGE_VOLUME, &request).await?;
            }
            place.remove().map_err(CsiError::io("remove", &path))?;
        }
        self.attachments.let_go(&unique_name(&id.driver, &id.handle));
        Ok(())
    }

    async fn unstage(&self, id: &Handle) -> Result<(), CsiError> {
        let _lock = self.locks.lock(id).await;
        self.leave(id).await
    }

    /// What pods that are gone left behind when no agent ran; tried until it is done.
    pub async fn release_left(self: Arc<Self>, mut left: Vec<String>) {
        let mut wait = RETRY_INITIAL;
        let mut drivers = self.drivers.subscribe();
        loop {
            drivers.mark_unchanged();
            let mut failed = Vec::new();
            for uid in left {
                if let Err(error) = self.release(&uid).await {
                    tracing::warn!(pod = uid, error = %chain(&error), "volumes of a pod that is gone not released; will retry");
                    failed.push(uid);
                }
            }
            let mut staged = false;
            for (_, record) in self.layout.all_staged() {
                if let Err(error) = self.unstage(&record.id()).await {
                    tracing::warn!(volume = record.volume_handle, error = %chain(&error), "staged volume not released; will retry");
                    staged = true;
                }
            }
            if failed.is_empty() && !staged {
                return;
            }
            left = failed;
            // A driver that registers may be the one.
            let _ = tokio::time::timeout(wait, drivers.changed()).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// The pods that drivers hold something for, and that are not known.
    pub fn strangers(&self, known: impl Fn(&str) -> bool) -> Vec<String> {
        self.layout.pods_with_volumes().into_iter().filter(|uid| !known(uid)).collect()
    }
}
