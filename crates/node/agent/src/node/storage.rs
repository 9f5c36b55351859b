//! Removes the directories of local volumes that are over, as the annotations of this node's object ask.

use std::io;
use std::path::{Component, Path, PathBuf};

use api::volume::{REMOVAL, REMOVAL_DONE};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use machinery_client::Change;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Own, RETRY_INITIAL, RETRY_MAX};
use crate::pods::remove_dir;
use crate::seams::chain;

pub(super) struct Storage {
    pub(super) api: Api<Node>,
    pub(super) node: String,
    pub(super) directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error("{0:?} is no volume's name")]
    Name(String),
    #[error("remove {path}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("say that a volume's directory is removed")]
    Api(#[from] kube::Error),
}

impl Storage {
    pub(super) async fn run(self, mut changes: UnboundedReceiver<Change<Own>>) {
        let mut wait = RETRY_INITIAL;
        while let Some(change) = changes.recv().await {
            let Change::Applied { new, .. } = change else { continue };
            for volume in &new.removals {
                while let Err(error) = self.remove(volume).await {
                    tracing::warn!(volume, error = %chain(&error), "local volume not removed");
                    if matches!(error, RemovalError::Name(_)) {
                        break;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        }
    }

    async fn remove(&self, volume: &str) -> Result<(), RemovalError> {
        let path = below(&self.directory, volume).ok_or_else(|| RemovalError::Name(volume.to_owned()))?;
        let subject = path.clone();
        let removed = tokio::task::spawn_blocking(move || remove_dir(&subject)).await.map_err(io::Error::other);
        removed.and_then(|result| result).map_err(|source| RemovalError::Io { path, source })?;
        let annotation = format!("{REMOVAL}{volume}");
        let patch = serde_json::json!({"metadata": {"annotations": {annotation: REMOVAL_DONE}}});
        self.api.patch(&self.node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}

/// Directly below, and nowhere else: whoever can write the annotation must not reach the rest of the node by it.
fn below(directory: &Path, volume: &str) -> Option<PathBuf> {
    let mut parts = Path::new(volume).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == volume => Some(directory.join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_directly_below_is_removed() {
        let dir = Path::new("/data/storage");
        assert_eq!(below(dir, "pvc-1"), Some(PathBuf::from("/data/storage/pvc-1")));
        for bad in ["", ".", "..", "../x", "/etc", "a/b", "a/", "./a"] {
            assert_eq!(below(dir, bad), None, "{bad:?}");
        }
    }
}
