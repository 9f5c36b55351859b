//! A strategy with its type erased, so that the core is compiled once and not once for every kind.

use base_meta::{Status, decode, field};
use futures::future::BoxFuture;
use serde_json::Value;

use crate::custom::CustomSchema;
use crate::object::{ApiObject, Erased, of, of_mut};
use crate::scale::ScalePaths;
use crate::strategy::{Graceful, Undo};
use crate::{DeleteOptions, RequestContext, Strategy};

/// [`Strategy`], method by method, over erased objects of its own type.
pub(crate) trait Kind: Send + Sync + 'static {
    /// Decodes and defaults.
    fn decode(&self, json: &[u8]) -> serde_json::Result<Box<dyn Erased>>;
    /// As [`Self::decode`].
    fn take(&self, value: Value) -> serde_json::Result<Box<dyn Erased>>;
    fn custom_schema(&self) -> Option<std::sync::Arc<dyn CustomSchema>>;
    fn scale_paths(&self) -> ScalePaths;
    fn has_generation(&self) -> bool;
    fn is_created_with_status(&self) -> bool;
    fn changes_status(&self, subresource: &str) -> bool;
    fn prepare_for_create(&self, ctx: &RequestContext, object: &mut dyn Erased);
    fn prepare_for_update(&self, ctx: &RequestContext, new: &mut dyn Erased, old: &dyn Erased);
    fn prepare_for_status_update(&self, ctx: &RequestContext, new: &mut dyn Erased, old: &dyn Erased);
    fn validate(&self, ctx: &RequestContext, object: &dyn Erased) -> Vec<field::Error>;
    fn validate_update(&self, ctx: &RequestContext, new: &dyn Erased, old: &dyn Erased) -> Vec<field::Error>;
    fn validate_status_update(&self, ctx: &RequestContext, new: &dyn Erased, old: &dyn Erased) -> Vec<field::Error>;
    fn validate_name(&self, name: &str) -> Vec<String>;
    fn warnings(&self, object: &dyn Erased) -> Vec<String>;
    fn allow_create_on_update(&self) -> bool;
    fn allow_unconditional_update(&self) -> bool;
    fn graceful(&self, ctx: &RequestContext, object: &dyn Erased, options: &mut DeleteOptions) -> Graceful;
    fn blocks_removal(&self, object: &dyn Erased) -> bool;
    fn mark_deleting(&self, object: &mut dyn Erased);
    fn allocates(&self) -> bool;
    fn begin_create<'a>(
        &'a self,
        ctx: &'a RequestContext,
        object: &'a mut dyn Erased,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Option<Undo>, Status>>;
    fn begin_update<'a>(
        &'a self,
        ctx: &'a RequestContext,
        new: &'a mut dyn Erased,
        old: &'a dyn Erased,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Option<Undo>, Status>>;
    fn after_update<'a>(&'a self, old: &'a dyn Erased, new: &'a dyn Erased) -> BoxFuture<'a, ()>;
    fn after_delete<'a>(&'a self, object: &'a dyn Erased) -> BoxFuture<'a, ()>;
    fn selectable(&self, object: &dyn Erased) -> Vec<(&'static str, String)>;
    fn row(&self, object: &dyn Erased) -> Vec<Value>;
}

impl<S: Strategy> Kind for S {
    fn decode(&self, json: &[u8]) -> serde_json::Result<Box<dyn Erased>> {
        let mut object: S::Object = decode(json)?;
        Strategy::default(self, &mut object);
        Ok(Box::new(object))
    }

    fn take(&self, value: Value) -> serde_json::Result<Box<dyn Erased>> {
        let mut object = S::Object::of_value(value)?;
        Strategy::default(self, &mut object);
        Ok(Box::new(object))
    }

    fn custom_schema(&self) -> Option<std::sync::Arc<dyn CustomSchema>> {
        Strategy::custom_schema(self)
    }

    fn scale_paths(&self) -> ScalePaths {
        Strategy::scale_paths(self)
    }

    fn has_generation(&self) -> bool {
        Strategy::has_generation(self)
    }

    fn is_created_with_status(&self) -> bool {
        Strategy::is_created_with_status(self)
    }

    fn changes_status(&self, subresource: &str) -> bool {
        Strategy::changes_status(self, subresource)
    }

    fn prepare_for_create(&self, ctx: &RequestContext, object: &mut dyn Erased) {
        Strategy::prepare_for_create(self, ctx, of_mut(object));
    }

    fn prepare_for_update(&self, ctx: &RequestContext, new: &mut dyn Erased, old: &dyn Erased) {
        Strategy::prepare_for_update(self, ctx, of_mut(new), of(old));
    }

    fn prepare_for_status_update(&self, ctx: &RequestContext, new: &mut dyn Erased, old: &dyn Erased) {
        Strategy::prepare_for_status_update(self, ctx, of_mut(new), of(old));
    }

    fn validate(&self, ctx: &RequestContext, object: &dyn Erased) -> Vec<field::Error> {
        Strategy::validate(self, ctx, of(object))
    }

    fn validate_update(&self, ctx: &RequestContext, new: &dyn Erased, old: &dyn Erased) -> Vec<field::Error> {
        Strategy::validate_update(self, ctx, of(new), of(old))
    }

    fn validate_status_update(&self, ctx: &RequestContext, new: &dyn Erased, old: &dyn Erased) -> Vec<field::Error> {
        Strategy::validate_status_update(self, ctx, of(new), of(old))
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        Strategy::validate_name(self, name)
    }

    fn warnings(&self, object: &dyn Erased) -> Vec<String> {
        Strategy::warnings(self, of(object))
    }

    fn allow_create_on_update(&self) -> bool {
        Strategy::allow_create_on_update(self)
    }

    fn allow_unconditional_update(&self) -> bool {
        Strategy::allow_unconditional_update(self)
    }

    fn graceful(&self, ctx: &RequestContext, object: &dyn Erased, options: &mut DeleteOptions) -> Graceful {
        Strategy::graceful(self, ctx, of(object), options)
    }

    fn blocks_removal(&self, object: &dyn Erased) -> bool {
        Strategy::blocks_removal(self, of(object))
    }

    fn mark_deleting(&self, object: &mut dyn Erased) {
        Strategy::mark_deleting(self, of_mut(object));
    }

    fn allocates(&self) -> bool {
        Strategy::allocates(self)
    }

    fn begin_create<'a>(
        &'a self,
        ctx: &'a RequestContext,
        object: &'a mut dyn Erased,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Option<Undo>, Status>> {
        Strategy::begin_create(self, ctx, of_mut(object), dry_run)
    }

    fn begin_update<'a>(
        &'a self,
        ctx: &'a RequestContext,
        new: &'a mut dyn Erased,
        old: &'a dyn Erased,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Option<Undo>, Status>> {
        Strategy::begin_update(self, ctx, of_mut(new), of(old), dry_run)
    }

    fn after_update<'a>(&'a self, old: &'a dyn Erased, new: &'a dyn Erased) -> BoxFuture<'a, ()> {
        Strategy::after_update(self, of(old), of(new))
    }

    fn after_delete<'a>(&'a self, object: &'a dyn Erased) -> BoxFuture<'a, ()> {
        Strategy::after_delete(self, of(object))
    }

    fn selectable(&self, object: &dyn Erased) -> Vec<(&'static str, String)> {
        Strategy::selectable(self, of(object))
    }

    fn row(&self, object: &dyn Erased) -> Vec<Value> {
        Strategy::row(self, of(object))
    }
}
