//! One version of a custom kind that is not the stored one.

use std::sync::Arc;

use base_meta::{GroupVersion, Status};
use machinery_registry::Conversion;
use machinery_storage::Object;
use serde_json::Value;

use super::row::row;
use super::version::Version;

#[derive(Debug)]
pub(crate) struct Versions {
    pub(crate) shown: Arc<Version>,
    /// As `spec.conversion` says.
    pub(crate) between: Arc<dyn Conversion>,
}

#[async_trait::async_trait]
impl Conversion for Versions {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        self.between.convert(objects, to).await
    }

    fn row(&self, object: &Object) -> Option<Result<Vec<Value>, Status>> {
        let parsed = serde_json::from_slice(object.json()).map_err(Status::internal);
        Some(parsed.map(|object: Value| row(&self.shown.columns, &object)))
    }
}
