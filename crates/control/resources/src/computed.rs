//! Kinds that are read only and stored nowhere: each answer is made when it is asked for.

use std::sync::Arc;

use base_meta::Status;
use machinery_registry::resource::List;
use machinery_registry::{ListOptions, RequestContext, Resource, ResourceDef};
use machinery_storage::{Meta, Object, Revision};
use serde_json::Value;

/// What such a kind says of itself; its `ResourceDef` has the verbs get and list.
#[async_trait::async_trait]
pub(crate) trait Compute: Send + Sync + 'static {
    fn def(&self) -> &ResourceDef;

    async fn get(&self, ctx: &RequestContext, name: &str) -> Result<Arc<Object>, Status>;

    /// Those that the selectors choose.
    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<Vec<Arc<Object>>, Status>;

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status>;
}

/// Such a kind as a resource.
pub(crate) struct Computed<T>(pub(crate) T);

/// An object that is in no store, and so has no resourceVersion.
pub(crate) fn object(meta: Meta, value: &Value) -> Result<Arc<Object>, Status> {
    let json = serde_json::to_vec(value).map_err(Status::internal)?;
    let key = meta.name.clone();
    Ok(Arc::new(Object::new(key, Revision::default(), meta, json.into()).map_err(Status::internal)?))
}

#[async_trait::async_trait]
impl<T: Compute> Resource for Computed<T> {
    fn def(&self) -> &ResourceDef {
        self.0.def()
    }

    async fn get(&self, ctx: &RequestContext, name: &str, _: &str) -> Result<Arc<Object>, Status> {
        self.0.get(ctx, name).await
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<List, Status> {
        let items = self.0.list(ctx, options).await?;
        Ok(List { items, revision: Revision::default(), continue_token: String::new(), remaining: None })
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        self.0.row(object)
    }
}
