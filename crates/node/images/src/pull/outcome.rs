//! Failures of one endpoint, sorted by what the agent does about them.

use oci_client::errors::{DigestError, OciDistributionError as Oci, OciErrorCode};

use crate::error::{Cause, PullError, StoreError, is_full};
use crate::unpack::LayerError;

#[derive(Debug)]
pub enum Failure {
    NotFound,
    Unauthorized(Cause),
    Unreachable(Cause),
    Corrupt(Cause),
    Unsupported(String),
    DiskFull(Cause),
    Other(Cause),
}

impl Failure {
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt(what.into().into())
    }

    pub fn into_error(self, image: &str, endpoint: &str) -> PullError {
        let image = image.to_owned();
        match self {
            Self::NotFound => PullError::NotFound { image },
            Self::Unauthorized(source) => PullError::Unauthorized { image, source },
            Self::Unreachable(source) => PullError::Unreachable { image, endpoint: endpoint.to_owned(), source },
            Self::Corrupt(source) => PullError::Corrupt { image, source },
            Self::Unsupported(what) => PullError::Unsupported { image, what },
            Self::DiskFull(source) => PullError::DiskFull { image, source },
            Self::Other(source) => PullError::Other { image, source },
        }
    }
}

impl From<Oci> for Failure {
    fn from(error: Oci) -> Self {
        match &error {
            // Whatever broke before a whole answer was there: names, connections, TLS, silence.
            Oci::RequestError(_) => Self::Unreachable(error.into()),
            Oci::RegistryError { envelope, .. } => match envelope.errors.first().map(|error| &error.code) {
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::ManifestBlobUnknown,
                ) => Self::NotFound,
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Self::Unauthorized(error.into()),
                Some(OciErrorCode::Unsupported) => Self::Unsupported(error.to_string()),
                _ => Self::Other(error.into()),
            },
            Oci::UnauthorizedError { .. } | Oci::AuthenticationFailure(_) => Self::Unauthorized(error.into()),
            Oci::ServerError { code, .. } => match code {
                401 | 403 => Self::Unauthorized(error.into()),
                404 => Self::NotFound,
                // What stands before the registry says that it cannot reach it.
                502..=504 => Self::Unreachable(error.into()),
                _ => Self::Other(error.into()),
            },
            Oci::ImageManifestNotFoundError(_) => Self::NotFound,
            Oci::DigestError(_) | Oci::ManifestParsingError(_) | Oci::VersionedParsingError(_) | Oci::JsonError(_) => {
                Self::Corrupt(error.into())
            }
            Oci::UnsupportedMediaTypeError(_) | Oci::UnsupportedSchemaVersionError(_) => {
                Self::Unsupported(error.to_string())
            }
            _ => Self::Other(error.into()),
        }
    }
}

impl Failure {
    /// An error while streaming a blob: the client wraps both its digest check and the network's errors.
    pub fn from_stream(error: std::io::Error) -> Self {
        match error.get_ref() {
            Some(inner) if inner.is::<DigestError>() => Self::Corrupt(error.into()),
            _ => Self::Unreachable(error.into()),
        }
    }

    /// An error while writing to the store.
    pub fn from_disk(error: std::io::Error) -> Self {
        if is_full(&error) { Self::DiskFull(error.into()) } else { Self::Other(error.into()) }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        match &error {
            LayerError::Write { source, .. } if is_full(source) => Self::DiskFull(error.into()),
            LayerError::Write { .. } => Self::Other(error.into()),
            LayerError::Read(_) | LayerError::Digest { .. } => Self::Corrupt(error.into()),
            LayerError::Hostile { .. } | LayerError::TooLarge { .. } => Self::Corrupt(error.into()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Io { source, .. } if is_full(source) => Self::DiskFull(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}
