//! PUT, and the loop under every other change of a stored object.

use base_meta::field::{self, Path};
use base_meta::{Gvk, Reason, Status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery_storage::Freshness;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::Options;
use crate::admit::Asked;
use crate::chain::give_back;
use crate::codec::Stored;
use crate::core::Core;
use crate::dialect::Dialect;
use crate::managed::{Ledger, cut};
use crate::ownership::{How, Ownership, Owning as _, take_sent};
use crate::resource::Written;
use crate::{FieldValidation, Operation, Payload, RequestContext, UpdateOptions, metadata};

/// Which part of the object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but `status`, where that is a subresource.
    Whole,
    Status,
}

/// Writers that race for one object more often than this are told to try again.
pub(crate) const RACES: usize = 64;

/// What a write makes of the stored object. A resourceVersion in it must be the stored one: so a caller's own is
/// kept across races.
#[async_trait::async_trait]
pub(crate) trait Origin: Send {
    async fn wanted(&mut self, stored: &Stored) -> Result<Wanted, Status>;
}

pub(crate) struct Wanted {
    pub(crate) object: Value,
    /// Who owns what of it, where that is known already.
    pub(crate) ledger: Option<Ledger>,
}

impl From<Value> for Wanted {
    fn from(object: Value) -> Self {
        Self { object, ledger: None }
    }
}

/// A body is the same whatever is stored. Decoded, and once more for each race that is lost.
struct Sent<'a> {
    dialect: &'a Dialect,
    ctx: &'a RequestContext,
    body: &'a Payload,
    validation: FieldValidation,
    part: Part,
    first: Option<Value>,
}

#[async_trait::async_trait]
impl Origin for Sent<'_> {
    async fn wanted(&mut self, stored: &Stored) -> Result<Wanted, Status> {
        let value = match self.first.take() {
            Some(value) => value,
            None => self.dialect.decode(self.ctx, self.body, self.validation)?,
        };
        Ok(self.dialect.written(value, Some(stored), self.part).await?.into())
    }
}

impl Core {
    pub(crate) async fn update_decoded(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        name: &str,
        part: Part,
        body: &Payload,
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        let value = dialect.decode(ctx, body, options.field_validation)?;
        self.check_named(ctx, name, &value)?;
        let api_version = dialect.def.gvk.api_version();
        let manager = options.field_manager.as_deref();
        let how =
            How { dry_run: options.dry_run, manager, api_version: &api_version, validation: options.field_validation };
        if part == Part::Whole
            && self.kind.allow_create_on_update()
            && self.find(&self.key(ctx, name)?, Freshness::Latest).await?.is_none()
        {
            if let Some(refusal) = &options.no_create {
                return Err((**refusal).clone());
            }
            let new = dialect.written(value.clone(), None, part).await?;
            match self.create_named(ctx, name, new, how).await {
                // Another was first: what it made is updated.
                Err(status) if status.reason == Reason::AlreadyExists => {}
                answer => return answer,
            }
        }
        let validation = options.field_validation;
        let mut sent = Sent { dialect, ctx, body, validation, part, first: Some(value) };
        self.modify(ctx, name, part, how, &mut sent).await
    }

    /// PUT of what does not exist. As upstream's, it looks at the uid that the client expects there, and at no
    /// resourceVersion.
    async fn create_named(
        &self,
        ctx: &RequestContext,
        name: &str,
        mut value: Value,
        how: How<'_>,
    ) -> Result<Written, Status> {
        if let Some(Value::Object(meta)) = value.get_mut("metadata") {
            meta.remove("resourceVersion");
            if let Some(uid) = meta.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty()) {
                self.check_uid(name, uid, "")?;
            }
        }
        self.insert(ctx, value, how, None).await
    }

    /// Reads, lets `origin` say what the object should be, and writes that; again when another writer was first.
    pub(crate) async fn modify(
        &self,
        ctx: &RequestContext,
        name: &str,
        part: Part,
        how: How<'_>,
        origin: &mut dyn Origin,
    ) -> Result<Written, Status> {
        for _ in 0..RACES {
            let stored = self.stored(ctx, name).await?;
            let wanted = origin.wanted(&stored).await?;
            if let Some(written) = self.replace(ctx, name, part, how, &stored, wanted).await? {
                return Ok(written);
            }
        }
        Err(Status::modified(&self.gvr, name))
    }

    /// `None`: lost a race.
    async fn replace(
        &self,
        ctx: &RequestContext,
        name: &str,
        part: Part,
        how: How<'_>,
        stored: &Stored,
        wanted: Wanted,
    ) -> Result<Option<Written>, Status> {
        let dry_run = how.dry_run;
        let Wanted { object: mut value, ledger } = wanted;
        let sent = take_sent(&mut value);
        let old = &*stored.typed;
        let value = self.graft(part, value, stored)?;
        let mut new = self.typed_value(value)?;
        self.check_name(ctx, name, new.metadata())?;
        self.fit_namespace(ctx, new.metadata_mut())?;
        self.check_preconditions(name, new.metadata(), stored)?;

        let asked = Asked { ctx, operation: Operation::Update, name, options: Options::Update(how.writing()) };
        let own = |seen: &Value| match ledger {
            Some(ledger) => Ok(Ownership::Changed(ledger)),
            None => self.own_changed(ctx, how, stored, sent.as_ref(), seen),
        };
        let (mut new, ownership) = self.mutate(asked, new, Some(stored), own).await?;
        carry_system_fields(new.metadata_mut(), old.metadata());
        match part {
            Part::Whole => self.kind.prepare_for_update(ctx, &mut *new, old),
            Part::Status => self.kind.prepare_for_status_update(ctx, &mut *new, old),
        }
        let mut value = self.canonical(&*new)?;
        if part == Part::Whole {
            self.count_generation(&mut *new, &mut value, stored)?;
        }

        let mut errors = metadata::validate_update(new.metadata(), old.metadata());
        errors.extend(match part {
            Part::Whole => self.kind.validate_update(ctx, &*new, old),
            Part::Status => self.kind.validate_status_update(ctx, &*new, old),
        });
        self.invalid(name, &errors)?;
        for warning in self.kind.warnings(&*new) {
            ctx.warnings.add(warning);
        }
        self.admit(asked, Some((&value, ownership.owned(Some(stored)))), Some(stored)).await?;

        let mut taken = self.reserve(asked, &value, Some(stored)).await?;
        let begun = match part {
            Part::Whole => self.kind.begin_update(ctx, &mut *new, old, dry_run).await,
            Part::Status => Ok(None),
        };
        let written = match begun {
            Ok(undo) => {
                if undo.is_some() || (part == Part::Whole && self.kind.allocates()) {
                    value = self.canonical(&*new)?;
                }
                taken.extend(undo);
                self.put(stored, &*new, &value, ownership, dry_run).await
            }
            Err(status) => Err(status),
        };
        match &written {
            Ok(None) | Err(_) => give_back(taken).await,
            Ok(Some(_)) if !dry_run && part == Part::Whole => self.kind.after_update(old, &*new).await,
            Ok(Some(_)) => {}
        }
        written
    }

    /// Takes from a write only the part it is about; the rest stays as stored.
    fn graft(&self, part: Part, mut value: Value, stored: &Stored) -> Result<Value, Status> {
        /// The rest of the object is passed over, not decoded.
        #[derive(Deserialize)]
        struct StatusOnly {
            status: Option<Value>,
        }
        match part {
            Part::Whole if self.def().subresource("status").is_none() => Ok(value),
            Part::Whole => {
                let old: StatusOnly = serde_json::from_slice(stored.object.json()).map_err(Status::internal)?;
                if let Value::Object(new) = &mut value {
                    match old.status {
                        Some(status) => new.insert("status".into(), status),
                        None => new.remove("status"),
                    };
                }
                Ok(value)
            }
            Part::Status => {
                let mut result: Value =
                    serde_json::from_slice(&cut(stored.object.json()).0).map_err(Status::internal)?;
                move_member(&mut value, &mut result, "status");
                let mut meta = value.get_mut("metadata").map(Value::take).unwrap_or_default();
                if let Some(target) = result.get_mut("metadata") {
                    // Upstream's status strategies let these through, and preconditions are checked later.
                    for field in ["labels", "annotations", "finalizers", "resourceVersion", "uid", "name", "namespace"]
                    {
                        move_member(&mut meta, target, field);
                    }
                }
                Ok(result)
            }
        }
    }

    fn check_preconditions(&self, name: &str, new: &ObjectMeta, stored: &Stored) -> Result<(), Status> {
        let old = stored.typed.metadata();
        if let Some(uid) = new.uid.as_deref().filter(|uid| !uid.is_empty()) {
            self.check_uid(name, uid, old.uid.as_deref().unwrap_or_default())?;
        }
        match new.resource_version.as_deref() {
            None | Some("") if self.kind.allow_unconditional_update() => Ok(()),
            None | Some("") => {
                let path = Path::new("metadata").child("resourceVersion");
                // Upstream names the resource, not the kind, in this one.
                let resource = Gvk { kind: self.def().plural.clone(), ..self.def().gvk.clone() };
                let error = field::Error::invalid(&path, 0, "must be specified for an update");
                Err(Status::invalid(&resource, name, &[error]))
            }
            Some(version) if version.parse() == Ok(stored.object.revision.0) => Ok(()),
            Some(_) => Err(Status::modified(&self.gvr, name)),
        }
    }

    pub(crate) fn check_uid(&self, name: &str, asked: &str, stored: &str) -> Result<(), Status> {
        if asked == stored {
            return Ok(());
        }
        let message = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {stored}");
        Err(Status::conflict(&self.gvr, name, &message))
    }
}

/// What only the server sets comes from the stored object, whatever the client sent.
fn carry_system_fields(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.generation = old.generation;
    if new.uid.as_deref().unwrap_or_default().is_empty() {
        new.uid.clone_from(&old.uid);
    }
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if old.deletion_grace_period_seconds.is_some() && new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
    (new.self_link, new.managed_fields) = (None, None);
}

fn move_member(from: &mut Value, to: &mut Value, name: &str) {
    let Value::Object(to) = to else { return };
    match from.as_object_mut().and_then(|from| from.remove(name)) {
        Some(value) => to.insert(name.into(), value),
        None => to.remove(name),
    };
}
