//! Why a driver's volume cannot be used, in upstream's words.

use std::io;
use std::path::{Path, PathBuf};

use machinery_client::ObjectKey;
use node_grpc::Status;

use crate::cluster::ClusterError;

/// What an Event names as having failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Once for the node.
    MountDevice,
    /// For a pod.
    SetUp,
    /// Once the volume has grown.
    NodeExpand,
}

#[derive(Debug, thiserror::Error)]
pub enum CsiError {
    #[error("driver name {0} not found in the list of registered CSI drivers")]
    NotRegistered(String),
    #[error("volume mode \"Ephemeral\" not supported by driver {driver} ({why})")]
    NotEphemeral { driver: String, why: String },
    #[error("fetching the Secret {0} failed: secret {name:?} not found", name = .0.name)]
    NoSecret(ObjectKey),
    #[error("timed out waiting for external-attacher of {0} CSI driver to attach volume {1}")]
    NotAttached(String, String),
    #[error("the node's status does not say yet that it uses the volume")]
    NotReported,
    #[error(transparent)]
    Call(#[from] Status),
    #[error("cannot {operation} {path}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot read what the volume needs")]
    Cluster(#[from] ClusterError),
}

impl CsiError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}

/// An error with its step and the volume's own name, which for a claim is not the pod's.
#[derive(Debug)]
pub struct CsiFailure {
    pub step: Step,
    pub volume: String,
    pub(super) error: CsiError,
}

impl std::fmt::Display for CsiFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.error, self.step) {
            (CsiError::Call(status), _) => write!(f, "{status}"),
            (CsiError::NotRegistered(_), Step::MountDevice) => {
                write!(f, "kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {}", self.error)
            }
            (CsiError::NotRegistered(_), Step::SetUp | Step::NodeExpand) => {
                write!(f, "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {}", self.error)
            }
            (error, _) => write!(f, "kubernetes.io/csi: {error}"),
        }
    }
}

impl std::error::Error for CsiFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
