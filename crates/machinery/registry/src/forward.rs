//! A typed handle is a resource too, by its core. Written out, because what `async_trait` would make of these lines is
//! a state machine for every method of every kind, and this is a jump.

use std::pin::Pin;
use std::sync::Arc;

use base_meta::Status;
use futures::stream::BoxStream;
use machinery_storage::Object;
use serde_json::Value;

use crate::admission::{Operation, Options};
use crate::resource::{Answer, Deleted, List, WatchEvent, Written};
use crate::{
    CreateOptions, DeleteOptions, ListOptions, Patch, Payload, Registry, RequestContext, Resource, ResourceDef,
    Strategy, SubresourceHandler, UpdateOptions,
};

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send + 'a>>;

impl<S: Strategy> Resource for Registry<S> {
    fn def(&self) -> &ResourceDef {
        self.core.def()
    }

    fn create<'a, 'b, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        body: Payload,
        options: CreateOptions,
    ) -> Answering<'f, Written>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        self.core.create(ctx, body, options)
    }

    fn get<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        name: &'c str,
        resource_version: &'d str,
    ) -> Answering<'f, Arc<Object>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        self.core.get(ctx, name, resource_version)
    }

    fn list<'a, 'b, 'c, 'f>(&'a self, ctx: &'b RequestContext, options: &'c ListOptions) -> Answering<'f, List>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.list(ctx, options)
    }

    fn watch<'a, 'b, 'c, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        options: &'c ListOptions,
    ) -> Answering<'f, BoxStream<'static, WatchEvent>>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.watch(ctx, options)
    }

    fn update<'a, 'b, 'c, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        name: &'c str,
        body: Payload,
        options: UpdateOptions,
    ) -> Answering<'f, Answer>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.update(ctx, name, body, options)
    }

    fn patch<'a, 'b, 'c, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        name: &'c str,
        patch: Patch,
        options: UpdateOptions,
    ) -> Answering<'f, Answer>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.patch(ctx, name, patch, options)
    }

    fn get_scale<'a, 'b, 'c, 'f>(&'a self, ctx: &'b RequestContext, name: &'c str) -> Answering<'f, Value>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.get_scale(ctx, name)
    }

    fn delete<'a, 'b, 'c, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        name: &'c str,
        options: DeleteOptions,
    ) -> Answering<'f, Deleted>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.delete(ctx, name, options)
    }

    fn delete_collection<'a, 'b, 'c, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        list: &'c ListOptions,
        options: DeleteOptions,
    ) -> Answering<'f, List>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        Self: 'f,
    {
        self.core.delete_collection(ctx, list, options)
    }

    fn admit_body<'a, 'b, 'c, 'd, 'f>(
        &'a self,
        ctx: &'b RequestContext,
        name: &'c str,
        operation: Operation,
        body: Value,
        options: Options<'d>,
    ) -> Answering<'f, Value>
    where
        'a: 'f,
        'b: 'f,
        'c: 'f,
        'd: 'f,
        Self: 'f,
    {
        self.core.admit_body(ctx, name, operation, body, options)
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        self.core.stored_row(object)
    }

    fn handler(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.core.handler_of(subresource)
    }
}
