//! Logs of a foreign runtime's containers: it writes them, and the node keeps them within bounds.

use std::path::Path;

use node_grpc::messages::cri;

use super::{Core, REQUEST, config};
use crate::adapter::runtime::{LOG_BYTES, LOG_FILES};
use crate::logs::rotate;
use crate::seams::{DiskUsage, SeamError};

/// Moves a log away that has become too long, and has the runtime begin another.
pub(super) async fn bound(core: &Core, container: &cri::Container) -> Result<(), SeamError> {
    let known = core.known(&container.pod_sandbox_id).await?;
    let log = config::log(&known.config, &container.labels);
    // One that is not there is not too long.
    if std::fs::metadata(&log).map_or(0, |metadata| metadata.len()) <= LOG_BYTES {
        return Ok(());
    }
    rotate(&log, LOG_FILES).map_err(|error| SeamError::new("rotate", log.to_string_lossy(), error))?;
    let (id, subject) = (container.id.clone(), (cri::REOPEN_CONTAINER_LOG, container.id.as_str()));
    core.endpoint.ask("reopen the log of container", subject, &id, REQUEST).await
}

/// What a log and those before it take.
pub(super) fn used(log: &Path) -> DiskUsage {
    let files = crate::logs::list(log).unwrap_or_default();
    files
        .iter()
        .filter_map(|file| file.metadata().ok())
        .fold(DiskUsage::default(), |sum, one| DiskUsage { bytes: sum.bytes + blocks(&one), inodes: sum.inodes + 1 })
}

fn blocks(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}
