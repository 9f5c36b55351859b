//! A core, in one of its versions, behind the erased trait: which part of an object a request is about.

use std::sync::Arc;

use base_meta::Status;
use futures::stream::BoxStream;
use machinery_storage::Object;
use serde_json::Value;

use crate::admission::{Operation, Options};
use crate::core::Core;
use crate::dialect::Dialect;
use crate::resource::{Answer, Deleted, List, WatchEvent, Written};
use crate::update::Part;
use crate::{
    CreateOptions, DeleteOptions, ListOptions, Patch, Payload, RequestContext, Resource, ResourceDef,
    SubresourceHandler, UpdateOptions,
};

enum Target {
    Object(Part),
    Scale,
}

/// What `Resource` asks of a core, answered in a dialect.
impl Core {
    fn target(&self, def: &ResourceDef, ctx: &RequestContext) -> Result<Target, Status> {
        match ctx.subresource.as_deref() {
            None => Ok(Target::Object(Part::Whole)),
            Some(name) if def.subresource(name).is_none() => Err(Status::no_such_path()),
            Some("scale") => Ok(Target::Scale),
            Some(name) if self.kind.changes_status(name) => Ok(Target::Object(Part::Status)),
            // Another way to write the same object, as `pods/resize`: its strategy sees in `ctx` which.
            Some(name) if def.subresource(name).is_some_and(|sub| sub.gvk == def.gvk) => {
                Ok(Target::Object(Part::Whole))
            }
            Some(_) => Err(Status::no_such_path()),
        }
    }

    pub(crate) async fn speak_update(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        name: &str,
        body: Payload,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        let part = match self.target(&dialect.def, ctx)? {
            Target::Object(part) => part,
            Target::Scale => return self.put_scale(ctx, name, &body, &options).await.map(Answer::Value),
        };
        self.update_decoded(dialect, ctx, name, part, &body, &options).await.map(Answer::Object)
    }

    pub(crate) async fn speak_patch(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        name: &str,
        patch: Patch,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        let part = match self.target(&dialect.def, ctx)? {
            Target::Object(part) => part,
            Target::Scale => return self.patch_scale(ctx, name, &patch, &options).await.map(Answer::Value),
        };
        self.patch_object(dialect, ctx, name, part, &patch, &options).await.map(Answer::Object)
    }

    pub(crate) fn stored_row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        Ok(self.kind.row(&*self.typed(object)?))
    }
}

#[async_trait::async_trait]
impl Resource for Core {
    fn def(&self) -> &ResourceDef {
        &self.dialect.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        self.create_decoded(&self.dialect, ctx, &body, &options).await
    }

    async fn get(&self, ctx: &RequestContext, name: &str, resource_version: &str) -> Result<Arc<Object>, Status> {
        self.get_one(ctx, name, resource_version).await
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<List, Status> {
        self.list_page(&self.dialect, ctx, options).await
    }

    async fn watch(
        &self,
        ctx: &RequestContext,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        self.open_watch(&self.dialect, ctx, options).await
    }

    async fn update(
        &self,
        ctx: &RequestContext,
        name: &str,
        body: Payload,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        self.speak_update(&self.dialect, ctx, name, body, options).await
    }

    async fn patch(
        &self,
        ctx: &RequestContext,
        name: &str,
        patch: Patch,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        self.speak_patch(&self.dialect, ctx, name, patch, options).await
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
        self.delete_selected(&self.dialect, ctx, list, &options).await
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        self.stored_row(object)
    }

    async fn admit_body(
        &self,
        ctx: &RequestContext,
        name: &str,
        operation: Operation,
        body: Value,
        options: Options<'_>,
    ) -> Result<Value, Status> {
        self.pass_body(ctx, name, operation, body, options).await
    }

    fn handler(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.handler_of(subresource)
    }
}
