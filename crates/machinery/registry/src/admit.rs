//! Runs the admission chain over one write.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use base_meta::{GroupVersion, Gvk, Status, schema};
use serde_json::Value;

use crate::admission::{Options, Owned, Owners, Rounds, Version, Versions};
use crate::chain::Concerned;
use crate::codec::{Stored, plain};
use crate::core::Core;
use crate::managed::{Place, overlay};
use crate::object::Erased;
use crate::ownership::Owning;
use crate::scale::{at_mut, view};
use crate::strategy::Undo;
use crate::{Attributes, DeleteOptions, Operation, RequestContext, ResourceDef};

/// The write as plug-ins are told of it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) ctx: &'a RequestContext,
    pub(crate) operation: Operation,
    pub(crate) name: &'a str,
    pub(crate) options: Options<'a>,
}

impl Asked<'_> {
    fn dry_run(&self) -> bool {
        match self.options {
            Options::Create(writing) | Options::Update(writing) => writing.dry_run,
            Options::Delete(DeleteOptions { dry_run, .. }) => *dry_run,
            Options::None => false,
        }
    }

    fn scales(&self) -> bool {
        self.ctx.subresource.as_deref() == Some("scale")
    }
}

/// Tells whether plug-ins have changed a value, without a copy of it.
fn fingerprint(value: &Value) -> u64 {
    static KEYS: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);
    KEYS.hash_one(value)
}

impl Core {
    fn chain(&self, asked: Asked<'_>) -> Concerned<'_> {
        self.admission.of(&self.gvr, asked.ctx.subresource.as_deref(), asked.operation)
    }

    /// What plug-ins see of an object: a Scale where that is what the request writes.
    fn shown<'v>(&self, asked: Asked<'_>, object: &'v Value) -> Result<Cow<'v, Value>, Status> {
        if asked.scales() { view(&self.scale_paths, object).map(Cow::Owned) } else { Ok(Cow::Borrowed(object)) }
    }

    fn shown_old<'v>(&self, asked: Asked<'_>, old: Option<&'v Stored>) -> Result<Option<Cow<'v, Value>>, Status> {
        old.map(|old| self.shown(asked, self.value_of(old)?)).transpose()
    }

    /// Lets every plug-in that looks at such writes change the object; typed anew only where one did. `seen` is shown
    /// the object as the client wants it.
    pub(crate) async fn mutate<T: Owning>(
        &self,
        asked: Asked<'_>,
        object: Box<dyn Erased>,
        old: Option<&Stored>,
        seen: impl FnOnce(&Value) -> Result<T, Status> + Send,
    ) -> Result<(Box<dyn Erased>, T), Status> {
        let mut value = plain(&*object)?;
        schema::normalise(self.def().schema, &mut value);
        let seen = seen(&value)?;
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok((object, seen));
        }
        let owners = Owners { object: seen.owned(old), old: owned(old) };
        let old = self.shown_old(asked, old)?;
        let (told, rounds) = (self.told(asked), Rounds::default());
        let attributes = self.attributes(asked, &told, old.as_deref(), &rounds, owners);
        if asked.scales() {
            let mut scale = view(&self.scale_paths, &value)?;
            chain.mutate(&attributes, &mut scale).await?;
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            let place = at_mut(&mut value, &self.scale_paths.spec_replicas);
            if place.as_i64().unwrap_or(0) == replicas {
                return Ok((object, seen));
            }
            *place = replicas.into();
            return Ok((self.typed_value(value)?, seen));
        }
        let before = fingerprint(&value);
        chain.mutate(&attributes, &mut value).await?;
        let object = if fingerprint(&value) == before { object } else { self.typed_value(value)? };
        Ok((object, seen))
    }

    /// `object` is `None` for a deletion.
    pub(crate) async fn admit(
        &self,
        asked: Asked<'_>,
        object: Option<(&Value, Owned<'_>)>,
        old: Option<&Stored>,
    ) -> Result<(), Status> {
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok(());
        }
        let owners = Owners { object: object.map(|(_, owned)| owned).unwrap_or_default(), old: owned(old) };
        let object = object.map(|(object, _)| object);
        let old = self.shown_old(asked, old)?;
        let object = object.map(|object| self.shown(asked, object)).transpose()?;
        let (told, rounds) = (self.told(asked), Rounds::default());
        let attributes = self.attributes(asked, &told, old.as_deref(), &rounds, owners);
        chain.validate(&attributes, object.as_deref()).await
    }

    /// Lets plug-ins take what the write uses up.
    pub(crate) async fn reserve(
        &self,
        asked: Asked<'_>,
        object: &Value,
        old: Option<&Stored>,
    ) -> Result<Vec<Undo>, Status> {
        let chain = self.admission.reserving(&self.gvr, asked.ctx.subresource.as_deref(), asked.operation);
        if chain.is_empty() {
            return Ok(Vec::new());
        }
        let old = self.shown_old(asked, old)?;
        let (told, rounds) = (self.told(asked), Rounds::default());
        let attributes = self.attributes(asked, &told, old.as_deref(), &rounds, Owners::default());
        chain.reserve(&attributes, object).await
    }

    /// The whole chain over a body that a handler will act on. What it would change is not known here, so nothing is old
    /// but where it is the object itself that is written.
    pub(crate) async fn pass_body(
        &self,
        ctx: &RequestContext,
        name: &str,
        operation: Operation,
        mut body: Value,
        options: Options<'_>,
    ) -> Result<Value, Status> {
        let asked = Asked { ctx, operation, name, options };
        let chain = self.chain(asked);
        if chain.is_empty() {
            return Ok(body);
        }
        let old = if operation == Operation::Update { Some(self.stored(ctx, name).await?) } else { None };
        let owners = Owners { old: owned(old.as_ref()), ..Owners::default() };
        let shown = self.shown_old(asked, old.as_ref())?;
        let (told, rounds) = (self.told(asked), Rounds::default());
        let attributes = self.attributes(asked, &told, shown.as_deref(), &rounds, owners);
        chain.mutate(&attributes, &mut body).await?;
        chain.validate(&attributes, Some(&body)).await?;
        Ok(body)
    }

    fn told<'a>(&'a self, asked: Asked<'a>) -> Told<'a> {
        let kind = body_kind(self.def(), asked.ctx.subresource.as_deref());
        Told { core: self, subresource: asked.ctx.subresource.as_deref(), own: *kind != self.def().gvk, kind }
    }

    fn attributes<'a>(
        &'a self,
        asked: Asked<'a>,
        told: &'a Told<'a>,
        old: Option<&'a Value>,
        rounds: &'a Rounds,
        owners: Owners<'a>,
    ) -> Attributes<'a> {
        let Asked { ctx, operation, name, options } = asked;
        let dry_run = asked.dry_run();
        Attributes {
            ctx,
            operation,
            gvk: told.kind,
            gvr: &self.gvr,
            name,
            dry_run,
            old,
            options,
            versions: told,
            rounds,
            // A Scale has none of its own.
            owners: if asked.scales() { Owners::default() } else { owners },
        }
    }
}

fn owned(stored: Option<&Stored>) -> Owned<'_> {
    stored.map(|stored| Owned::Stored(&stored.object)).unwrap_or_default()
}

/// What a request to a subresource has as its body.
fn body_kind<'a>(def: &'a ResourceDef, subresource: Option<&str>) -> &'a Gvk {
    subresource.and_then(|name| def.subresource(name)).map_or(&def.gvk, |sub| &sub.gvk)
}

/// A core's versions, of the body that one request has.
struct Told<'a> {
    core: &'a Core,
    subresource: Option<&'a str>,
    kind: &'a Gvk,
    /// The body is of a kind of the subresource's own, which is the same in every version.
    own: bool,
}

#[async_trait::async_trait]
impl Versions for Told<'_> {
    fn all(&self) -> Vec<Version> {
        let version = |def: &ResourceDef| Version { gvr: def.gvr(), gvk: body_kind(def, self.subresource).clone() };
        let views = self.core.views();
        std::iter::once(version(self.core.def())).chain(views.iter().map(|view| version(&view.def))).collect()
    }

    async fn convert(&self, object: Value, to: &GroupVersion) -> Result<Value, Status> {
        if self.own {
            return Ok(object);
        }
        let from = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
        let views = self.core.views();
        let view = |version: &str| views.iter().find(|view| view.def.gvk.api_version() == version);
        let object = match view(&from) {
            Some(view) => view.to_stored(object).await?,
            None => object,
        };
        match view(&to.to_string()) {
            Some(view) => view.of_stored(object).await,
            None => Ok(object),
        }
    }

    fn settle(&self, object: Value) -> Result<Value, Status> {
        if self.own {
            return Ok(object);
        }
        let known = self.core.dialect.fitted(object);
        let known = known.map_err(|error| Status::bad_request(error.client_message()))?;
        let mut value = plain(&*self.core.typed_value(known.value)?)?;
        schema::normalise(self.core.def().schema, &mut value);
        Ok(value)
    }

    fn overlay(&self, object: &Value, configuration: &Value) -> Result<Value, String> {
        if self.own {
            return overlay(Place::Deduced, object, configuration);
        }
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let views = self.core.views();
        let view = views.iter().find(|view| view.def.gvk.api_version() == version);
        view.map_or(&self.core.dialect, |view| view).overlay(object, configuration)
    }
}
