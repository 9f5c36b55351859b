//! The typed registry behind the erased trait: which part of an object a request is about.

use std::sync::Arc;

use base_meta::Status;
use futures::stream::BoxStream;
use machinery_storage::Object;
use serde_json::Value;

use crate::resource::{Answer, Deleted, List, WatchEvent, Written};
use crate::update::Part;
use crate::{
    CreateOptions, DeleteOptions, ListOptions, Patch, Payload, Registry, RequestContext, Resource, ResourceDef,
    Strategy, SubresourceHandler, UpdateOptions,
};

enum Target {
    Object(Part),
    Scale,
}

impl<S: Strategy> Registry<S> {
    fn target(&self, ctx: &RequestContext) -> Result<Target, Status> {
        match ctx.subresource.as_deref() {
            None => Ok(Target::Object(Part::Whole)),
            Some(name) if self.def.subresource(name).is_none() => Err(Status::no_such_path()),
            Some("status") => Ok(Target::Object(Part::Status)),
            Some("scale") => Ok(Target::Scale),
            Some(_) => Err(Status::no_such_path()),
        }
    }
}

#[async_trait::async_trait]
impl<S: Strategy> Resource for Registry<S> {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        self.create_decoded(ctx, &body, &options).await
    }

    async fn get(&self, ctx: &RequestContext, name: &str, resource_version: &str) -> Result<Arc<Object>, Status> {
        self.get_one(ctx, name, resource_version).await
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<List, Status> {
        self.list_page(ctx, options).await
    }

    async fn watch(
        &self,
        ctx: &RequestContext,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        self.open_watch(ctx, options).await
    }

    async fn update(
        &self,
        ctx: &RequestContext,
        name: &str,
        body: Payload,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        match self.target(ctx)? {
            Target::Object(part) => self.update_decoded(ctx, name, part, &body, &options).await.map(Answer::Object),
            Target::Scale => self.put_scale(ctx, name, &body, &options).await.map(Answer::Value),
        }
    }

    async fn patch(
        &self,
        ctx: &RequestContext,
        name: &str,
        patch: Patch,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        match self.target(ctx)? {
            Target::Object(part) => self.patch_object(ctx, name, part, &patch, &options).await.map(Answer::Object),
            Target::Scale => self.patch_scale(ctx, name, &patch, &options).await.map(Answer::Value),
        }
    }

    async fn get_scale(&self, ctx: &RequestContext, name: &str) -> Result<Value, Status> {
        self.read_scale(ctx, name).await
    }

    async fn delete(&self, ctx: &RequestContext, name: &str, options: DeleteOptions) -> Result<Deleted, Status> {
        self.delete_one(ctx, name, &options).await
    }

    async fn delete_collection(
        &self,
        ctx: &RequestContext,
        list: &ListOptions,
        options: DeleteOptions,
    ) -> Result<List, Status> {
        self.delete_selected(ctx, list, &options).await
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        Ok(self.strategy.row(&self.typed(object)?))
    }

    fn handler(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.handler_of(subresource)
    }
}
