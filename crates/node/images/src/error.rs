//! What can go wrong with images, told apart where the agent acts differently. Messages follow containerd's, which is
//! what people search for.

use std::path::PathBuf;

use crate::name::InvalidName;
use crate::unpack::LayerError;

/// What lies beneath an error; print it by walking `source()`.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Trying again is pointless: the name cannot exist.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    #[error("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found")]
    NotFound { image: String },
    #[error(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": pull access denied, \
         repository does not exist or may require authorization"
    )]
    Unauthorized { image: String, source: Cause },
    /// No registry could be spoken to: an image that the operator imported may stand in.
    #[error("failed to pull and unpack image \"{image}\": failed to do request to {endpoint}")]
    Unreachable { image: String, endpoint: String, source: Cause },
    /// What the registry sent is not what it announced.
    #[error("failed to pull and unpack image \"{image}\": corrupt content")]
    Corrupt { image: String, source: Cause },
    #[error("failed to pull and unpack image \"{image}\": {what}")]
    Unsupported { image: String, what: String },
    #[error("failed to pull and unpack image \"{image}\": no space left in the image store")]
    DiskFull { image: String, source: Cause },
    #[error("failed to pull and unpack image \"{image}\"")]
    Other { image: String, source: Cause },
}

/// The store's own directory or index.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("read image index {}", path.display())]
    BadIndex { path: PathBuf, source: serde_json::Error },
    #[error("image {0:?} is not in the store")]
    NoSuchImage(String),
    #[error("image store task ended early")]
    Task(#[from] tokio::task::JoinError),
}

impl StoreError {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{operation} image archive {}", path.display())]
    Read { operation: &'static str, path: PathBuf, source: std::io::Error },
    /// Neither of the two forms, or a form that contradicts itself.
    #[error("image archive {}: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    #[error("image archive {}: parse {member}", path.display())]
    Json { path: PathBuf, member: String, source: serde_json::Error },
    #[error("image archive {}: name of the image", path.display())]
    Name { path: PathBuf, source: InvalidName },
    #[error("image archive {}: unpack {layer}", path.display())]
    Layer { path: PathBuf, layer: String, source: LayerError },
    #[error("store the image of archive {}", path.display())]
    Store { path: PathBuf, source: StoreError },
    #[error("import task ended early")]
    Task(#[from] tokio::task::JoinError),
}

/// Whether a full disk or quota is at the bottom of an error.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}
