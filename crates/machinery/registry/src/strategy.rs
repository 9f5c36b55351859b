//! What a kind says about itself; everything it does not say is the registry's default.

use std::sync::Arc;

use base_meta::{Status, field};
use serde_json::Value;

use crate::custom::CustomSchema;
pub use crate::object::ApiObject;
use crate::scale::ScalePaths;
use crate::{DeleteOptions, RequestContext, ResourceDef};

/// What deletion does to an object that may end gracefully.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graceful {
    /// Removed from the store at once (once its finalizers are gone).
    No,
    /// Marked with a deletionTimestamp this many seconds ahead; its agent deletes it with grace 0 when it has ended.
    Yes { grace_period_seconds: i64 },
}

/// Given back by an allocation; run if the write that needed it fails.
pub type Undo = Box<dyn FnOnce() -> futures::future::BoxFuture<'static, ()> + Send>;

/// One kind's behaviour. Pure hooks are plain functions; the two that touch shared state are async.
#[async_trait::async_trait]
pub trait Strategy: Send + Sync + 'static {
    type Object: ApiObject;

    fn def(&self) -> ResourceDef;

    /// Of a kind defined at run time, whose `Object` is [`Custom`](crate::Custom). Asked once, at start.
    fn custom_schema(&self) -> Option<Arc<dyn CustomSchema>> {
        None
    }

    /// Where the `scale` subresource finds its numbers. Asked once, at start.
    fn scale_paths(&self) -> ScalePaths {
        ScalePaths::default()
    }

    /// Fills what the user left out, as upstream's `SetDefaults_*`. Runs on every decode: requests and stored objects.
    fn default(&self, _object: &mut Self::Object) {}

    /// `metadata.generation` counts changes of everything but metadata and status.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a subresource that is written as the object is writes its status, and not the rest. The hooks of a status
    /// update see in `ctx` which it is.
    fn changes_status(&self, subresource: &str) -> bool {
        subresource == "status"
    }

    /// Whether who creates an object also says how it is, although `status` is a subresource: a node that registers.
    fn is_created_with_status(&self) -> bool {
        false
    }

    /// Clears what a client may not set. The registry has already cleared `status` where it is a subresource.
    fn prepare_for_create(&self, _ctx: &RequestContext, _object: &mut Self::Object) {}

    fn prepare_for_update(&self, _ctx: &RequestContext, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Of the status subresource; the registry has already put back everything but status, labels, annotations
    /// and finalizers.
    fn prepare_for_status_update(&self, _ctx: &RequestContext, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Object-specific rules; the registry has already checked `metadata`.
    fn validate(&self, _ctx: &RequestContext, _object: &Self::Object) -> Vec<field::Error> {
        Vec::new()
    }

    fn validate_update(&self, ctx: &RequestContext, new: &Self::Object, _old: &Self::Object) -> Vec<field::Error> {
        self.validate(ctx, new)
    }

    /// Of the status subresource; spec and immutable metadata are already the stored ones.
    fn validate_status_update(
        &self,
        _ctx: &RequestContext,
        _new: &Self::Object,
        _old: &Self::Object,
    ) -> Vec<field::Error> {
        Vec::new()
    }

    /// How `metadata.name` is checked: upstream's `ValidateNameFunc`. `Err` holds the messages.
    fn validate_name(&self, name: &str) -> Vec<String> {
        base_meta::names::dns1123_subdomain(name)
    }

    fn warnings(&self, _object: &Self::Object) -> Vec<String> {
        Vec::new()
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion overwrites.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Reads and may fill `options`; called on the first and on each further delete of a living object.
    fn graceful(&self, _ctx: &RequestContext, _object: &Self::Object, _options: &mut DeleteOptions) -> Graceful {
        Graceful::No
    }

    /// Whether something still holds a deleted object in the store.
    fn blocks_removal(&self, object: &Self::Object) -> bool {
        object.metadata().finalizers.as_deref().is_some_and(|finalizers| !finalizers.is_empty())
    }

    /// The object has been deleted but stays for now: shows that in it (a phase, say). Runs again on each further
    /// delete, so it must change nothing the second time.
    fn mark_deleting(&self, _object: &mut Self::Object) {}

    /// Whether `begin_create` or `begin_update` ever change the object. One that says no and yet does is stored as it
    /// was before, unless an [`Undo`] comes back.
    fn allocates(&self) -> bool {
        false
    }

    /// Takes allocations (a ClusterIP, a node port) before the object is stored; not called for dry runs that
    /// must not allocate: `dry_run` says so and the strategy then only checks.
    async fn begin_create(
        &self,
        _ctx: &RequestContext,
        _object: &mut Self::Object,
        _dry_run: bool,
    ) -> Result<Option<Undo>, Status> {
        Ok(None)
    }

    async fn begin_update(
        &self,
        _ctx: &RequestContext,
        _new: &mut Self::Object,
        _old: &Self::Object,
        _dry_run: bool,
    ) -> Result<Option<Undo>, Status> {
        Ok(None)
    }

    /// After an update that was stored: releases what the old object held and the new does not.
    async fn after_update(&self, _old: &Self::Object, _new: &Self::Object) {}

    /// Releases what the object held. Never fails: a repair loop catches what is missed.
    async fn after_delete(&self, _object: &Self::Object) {}

    /// Values of [`ResourceDef::fields`].
    fn selectable(&self, _object: &Self::Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Cells of [`ResourceDef::columns`], in order.
    fn row(&self, object: &Self::Object) -> Vec<Value>;
}
