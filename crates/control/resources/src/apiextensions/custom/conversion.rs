//! Between the versions of a custom kind.

use std::sync::Arc;

use base_meta::{GroupVersion, Status};
use machinery_registry::{Conversion, Renamed};
use machinery_storage::Object;
use serde_json::Value;

use super::row::row;
use super::version::Version;

/// From and to one version that is not the stored one.
#[derive(Debug)]
pub(crate) struct Versions {
    pub(crate) shown: Arc<Version>,
    /// `spec.conversion.strategy` is `Webhook`.
    pub(crate) webhook: bool,
}

#[async_trait::async_trait]
impl Conversion for Versions {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        if self.webhook {
            return Err(Status::internal("conversion webhooks are not called by this server yet"));
        }
        Renamed.convert(objects, to).await
    }

    fn row(&self, object: &Object) -> Option<Result<Vec<Value>, Status>> {
        let parsed = serde_json::from_slice(object.json()).map_err(Status::internal);
        Some(parsed.map(|object: Value| row(&self.shown.columns, &object)))
    }
}
