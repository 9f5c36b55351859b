//! A kind with its type erased: what the API server calls.

use std::sync::Arc;

use base_meta::Status;
use futures::stream::BoxStream;
use machinery_storage::{Object, Revision};
use serde_json::Value;

use crate::admission::{Operation, Options};
use crate::{
    Body, CreateOptions, DeleteOptions, ListOptions, Patch, Payload, RequestContext, ResourceDef, UpdateOptions,
};

/// What a write answers with: the stored object, or (dry run) the one that would have been.
#[derive(Clone, Debug)]
pub struct Written {
    pub object: Arc<Object>,
    /// Whether an update or apply made the object.
    pub created: bool,
}

/// A subresource's own body (`Scale`, `Binding`'s Status) is a plain value.
#[derive(Clone, Debug)]
pub enum Answer {
    Object(Written),
    Value(Value),
}

#[derive(Clone, Debug)]
pub enum Deleted {
    /// Gone from the store: answered with a `Status` of success (`details` name the object), except where the
    /// kind answers with the object itself, as pods and services do.
    Gone(Arc<Object>),
    /// Marked: finalizers or a grace period hold it; answered with the object.
    Pending(Arc<Object>),
}

#[derive(Debug)]
pub struct List {
    /// In key order, already filtered.
    pub items: Vec<Arc<Object>>,
    pub revision: Revision,
    pub continue_token: String,
    pub remaining: Option<u64>,
}

/// One event for one watcher, after its selectors.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(Arc<Object>),
    Modified(Arc<Object>),
    /// The object as it was last; its revision is the deletion's. Also sent when an object leaves the selector.
    Deleted(Arc<Object>),
    Bookmark {
        revision: Revision,
        initial_events_end: bool,
    },
    /// Ends the stream.
    Error(Status),
}

/// A subresource that is not plain storage: binding, eviction, log, exec, attach, portforward, proxy, token.
#[async_trait::async_trait]
pub trait SubresourceHandler: Send + Sync {
    /// A verb that the caller must be allowed whatever the request's own is.
    fn also_needs(&self) -> Option<&'static str> {
        None
    }

    async fn handle(
        &self,
        ctx: &RequestContext,
        name: &str,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status>;
}

#[async_trait::async_trait]
pub trait Resource: Send + Sync + 'static {
    fn def(&self) -> &ResourceDef;

    async fn create(&self, _ctx: &RequestContext, _body: Payload, _options: CreateOptions) -> Result<Written, Status> {
        Err(Status::method_not_allowed())
    }

    async fn get(&self, _ctx: &RequestContext, _name: &str, _resource_version: &str) -> Result<Arc<Object>, Status> {
        Err(Status::method_not_allowed())
    }

    async fn list(&self, _ctx: &RequestContext, _options: &ListOptions) -> Result<List, Status> {
        Err(Status::method_not_allowed())
    }

    async fn watch(
        &self,
        _ctx: &RequestContext,
        _options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        Err(Status::method_not_allowed())
    }

    /// Of the object, or of the subresource that `ctx` names (`status`, `scale`).
    async fn update(
        &self,
        _ctx: &RequestContext,
        _name: &str,
        _body: Payload,
        _options: UpdateOptions,
    ) -> Result<Answer, Status> {
        Err(Status::method_not_allowed())
    }

    async fn patch(
        &self,
        _ctx: &RequestContext,
        _name: &str,
        _patch: Patch,
        _options: UpdateOptions,
    ) -> Result<Answer, Status> {
        Err(Status::method_not_allowed())
    }

    /// GET of `scale`; `status` reads the object itself.
    async fn get_scale(&self, _ctx: &RequestContext, _name: &str) -> Result<Value, Status> {
        Err(Status::no_such_path())
    }

    async fn delete(&self, _ctx: &RequestContext, _name: &str, _options: DeleteOptions) -> Result<Deleted, Status> {
        Err(Status::method_not_allowed())
    }

    async fn delete_collection(
        &self,
        _ctx: &RequestContext,
        _list: &ListOptions,
        _options: DeleteOptions,
    ) -> Result<List, Status> {
        Err(Status::method_not_allowed())
    }

    /// The cells of one object for `Table`.
    fn row(&self, _object: &Object) -> Result<Vec<Value>, Status> {
        Err(Status::method_not_allowed())
    }

    /// Lets admission look at the body of a subresource that its handler serves: a connection's options, an Eviction.
    /// Answers with the body as plug-ins leave it. What is never stored passes none.
    async fn admit_body(
        &self,
        _ctx: &RequestContext,
        _name: &str,
        _operation: Operation,
        body: Value,
        _options: Options<'_>,
    ) -> Result<Value, Status> {
        Ok(body)
    }

    fn handler(&self, _subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        None
    }
}
