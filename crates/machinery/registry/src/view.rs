//! Another version of a stored kind, served from the same core: `autoscaling/v1` over what is stored as
//! `autoscaling/v2`, each version of a custom kind over the one that its definition stores.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use base_meta::{GroupVersion, Status};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use machinery_storage::Object;
use serde_json::Value;

use crate::admission::{Operation, Options};
use crate::core::Core;
use crate::custom::CustomSchema;
use crate::dialect::Dialect;
use crate::resource::{Answer, Deleted, List, WatchEvent, Written};
use crate::{
    CreateOptions, DeleteOptions, ListOptions, Patch, Payload, RequestContext, Resource, ResourceDef,
    SubresourceHandler, UpdateOptions,
};

/// Events converted in one call, where as many are ready.
const BATCH: usize = 64;

/// Between the versions of one kind.
#[async_trait::async_trait]
pub trait Conversion: Debug + Send + Sync + 'static {
    /// Each of `objects`, whatever version its `apiVersion` says it is in, as the version `to`; in their order. Keeps
    /// name, namespace and uid. May be given objects that are already in `to`.
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status>;

    /// The stored version's name for a selectable field of the view: `regarding.name` → `involvedObject.name`.
    fn field<'a>(&self, field: &'a str) -> Cow<'a, str> {
        field.into()
    }

    /// The cells of the view's own columns for a converted object; `None`: the stored kind's row is the view's.
    fn row(&self, _object: &Object) -> Option<Result<Vec<Value>, Status>> {
        None
    }
}

/// The versions differ in their `apiVersion` alone.
#[derive(Clone, Copy, Debug)]
pub struct Renamed;

#[async_trait::async_trait]
impl Conversion for Renamed {
    async fn convert(&self, mut objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        for object in &mut objects {
            object["apiVersion"] = to.to_string().into();
        }
        Ok(objects)
    }
}

/// A core in another version. Keys, resourceVersions, hooks and admission are the stored version's; a converted object
/// is kept with the version it was made from, so a conversion happens once for all who read it.
pub struct View {
    core: Arc<Core>,
    dialect: Arc<Dialect>,
}

impl View {
    /// `def` differs from the core's in version (or group), schema, selectable fields and columns; `custom` is the
    /// version's own schema, of a kind defined at run time.
    pub fn new(
        core: Arc<Core>,
        def: ResourceDef,
        custom: Option<Arc<dyn CustomSchema>>,
        conversion: Arc<dyn Conversion>,
    ) -> Arc<Self> {
        let dialect = Arc::new(Dialect::converted(def, custom, core.def(), conversion));
        core.viewed_as(&dialect);
        Arc::new(Self { core, dialect })
    }

    async fn written(&self, written: Written) -> Result<Written, Status> {
        Ok(Written { object: self.dialect.shown(written.object).await?, ..written })
    }

    async fn answer(&self, answer: Answer) -> Result<Answer, Status> {
        Ok(match answer {
            Answer::Object(written) => Answer::Object(self.written(written).await?),
            Answer::Value(value) => Answer::Value(value),
        })
    }

    async fn shown(&self, list: List) -> Result<List, Status> {
        Ok(List { items: self.dialect.all_shown(list.items).await?, ..list })
    }
}

/// The events with their objects converted; an error in place of those that cannot be.
async fn converted(dialect: &Dialect, events: Vec<WatchEvent>) -> Vec<WatchEvent> {
    let objects = events.iter().filter_map(|event| match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => Some(object.clone()),
        WatchEvent::Bookmark { .. } | WatchEvent::Error(_) => None,
    });
    let mut shown = match dialect.all_shown(objects.collect()).await {
        Ok(objects) => objects.into_iter(),
        Err(status) => return vec![WatchEvent::Error(status)],
    };
    let mut next = |was| shown.next().unwrap_or(was);
    let each = events.into_iter().map(|event| match event {
        WatchEvent::Added(object) => WatchEvent::Added(next(object)),
        WatchEvent::Modified(object) => WatchEvent::Modified(next(object)),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(next(object)),
        other => other,
    });
    each.collect()
}

#[async_trait::async_trait]
impl Resource for View {
    fn def(&self) -> &ResourceDef {
        &self.dialect.def
    }

    async fn create(&self, ctx: &RequestContext, body: Payload, options: CreateOptions) -> Result<Written, Status> {
        self.written(self.core.create_decoded(&self.dialect, ctx, &body, &options).await?).await
    }

    async fn get(&self, ctx: &RequestContext, name: &str, resource_version: &str) -> Result<Arc<Object>, Status> {
        self.dialect.shown(self.core.get_one(ctx, name, resource_version).await?).await
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<List, Status> {
        self.shown(self.core.list_page(&self.dialect, ctx, options).await?).await
    }

    async fn watch(
        &self,
        ctx: &RequestContext,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        let events = self.core.open_watch(&self.dialect, ctx, options).await?;
        let open = (Some(events.ready_chunks(BATCH)), self.dialect.clone());
        let events = stream::unfold(open, |(events, dialect)| async move {
            let mut events = events?;
            let batch = converted(&dialect, events.next().await?).await;
            // An error is the last that a watcher hears.
            let ended = batch.iter().any(|event| matches!(event, WatchEvent::Error(_)));
            Some((stream::iter(batch), ((!ended).then_some(events), dialect)))
        });
        let events = events.flatten();
        Ok(events.boxed())
    }

    async fn update(
        &self,
        ctx: &RequestContext,
        name: &str,
        body: Payload,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        self.answer(self.core.speak_update(&self.dialect, ctx, name, body, options).await?).await
    }

    async fn patch(
        &self,
        ctx: &RequestContext,
        name: &str,
        patch: Patch,
        options: UpdateOptions,
    ) -> Result<Answer, Status> {
        self.answer(self.core.speak_patch(&self.dialect, ctx, name, patch, options).await?).await
    }

    async fn get_scale(&self, ctx: &RequestContext, name: &str) -> Result<Value, Status> {
        self.core.read_scale(ctx, name).await
    }

    async fn delete(&self, ctx: &RequestContext, name: &str, options: DeleteOptions) -> Result<Deleted, Status> {
        Ok(match self.core.delete_one(ctx, name, &options).await? {
            Deleted::Gone(object) => Deleted::Gone(self.dialect.shown(object).await?),
            Deleted::Pending(object) => Deleted::Pending(self.dialect.shown(object).await?),
        })
    }

    async fn delete_collection(
        &self,
        ctx: &RequestContext,
        list: &ListOptions,
        options: DeleteOptions,
    ) -> Result<List, Status> {
        self.shown(self.core.delete_selected(&self.dialect, ctx, list, &options).await?).await
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        self.dialect.row(object, |stored| self.core.stored_row(stored))
    }

    async fn admit_body(
        &self,
        ctx: &RequestContext,
        name: &str,
        operation: Operation,
        body: Value,
        options: Options<'_>,
    ) -> Result<Value, Status> {
        self.core.pass_body(ctx, name, operation, body, options).await
    }

    fn handler(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.core.handler_of(subresource)
    }
}
