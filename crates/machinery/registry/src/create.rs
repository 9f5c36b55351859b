//! POST: a new object.

use base_meta::{Reason, Status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use machinery_storage::{Expect, Freshness, Op, Revision};
use serde_json::Value;

use crate::admission::{Options, Owned};
use crate::admit::Asked;
use crate::chain::give_back;
use crate::codec::{bytes, plain};
use crate::core::Core;
use crate::dialect::Dialect;
use crate::managed::{Ledger, splice};
use crate::object::Erased;
use crate::ownership::{How, take_sent};
use crate::resource::Written;
use crate::update::Part;
use crate::{CreateOptions, Operation, Payload, RequestContext, identity, metadata};

/// How often a generated name that is taken is replaced by another.
const NAME_ATTEMPTS: usize = 8;

impl Core {
    pub(crate) async fn create_decoded(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        body: &Payload,
        options: &CreateOptions,
    ) -> Result<Written, Status> {
        let value = dialect.decode(ctx, body, options.field_validation)?;
        let api_version = dialect.def.gvk.api_version();
        let manager = options.field_manager.as_deref();
        let how =
            How { dry_run: options.dry_run, manager, api_version: &api_version, validation: options.field_validation };
        self.insert(ctx, dialect.written(value, None, Part::Whole).await?, how, None).await
    }

    pub(crate) async fn create_erased(
        &self,
        ctx: &RequestContext,
        object: &dyn Erased,
    ) -> Result<Box<dyn Erased>, Status> {
        let api_version = self.def().gvk.api_version();
        let how = How { dry_run: false, manager: None, api_version: &api_version, validation: Default::default() };
        let written = self.insert(ctx, plain(object)?, how, None).await?;
        self.typed(&written.object)
    }

    /// Everything of a create after its body is a value that follows the schema. `applied`: who owns what of it, where
    /// that is known already.
    pub(crate) async fn insert(
        &self,
        ctx: &RequestContext,
        mut value: Value,
        how: How<'_>,
        applied: Option<Ledger>,
    ) -> Result<Written, Status> {
        let sent = take_sent(&mut value);
        if !self.kind.is_created_with_status()
            && let (Some(_), Value::Object(object)) = (self.def().subresource("status"), &mut value)
        {
            object.remove("status");
        }
        let mut object = self.typed_value(value)?;
        self.fit_namespace(ctx, object.metadata_mut())?;
        if object.metadata().resource_version.as_deref().is_some_and(|version| !version.is_empty()) {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let name = object.metadata().name.clone().unwrap_or_default();
        let asked = Asked { ctx, operation: Operation::Create, name: &name, options: Options::Create(how.writing()) };
        let own = |seen: &Value| Ok(applied.or_else(|| self.own_new(ctx, how, sent.as_ref(), seen)));
        let (mut object, ledger) = self.mutate(asked, object, None, own).await?;
        let ledger = ledger.map(|ledger| ledger.print());
        let ledger = ledger.as_deref();

        let meta = object.metadata_mut();
        meta.uid = Some(identity::uid()?);
        meta.creation_timestamp = Some(now());
        meta.generation = self.kind.has_generation().then_some(1);
        (meta.deletion_timestamp, meta.deletion_grace_period_seconds) = (None, None);
        (meta.self_link, meta.managed_fields) = (None, None);

        let base = match (meta.name.as_deref(), meta.generate_name.as_deref()) {
            (None | Some(""), Some(base)) if !base.is_empty() => base.to_owned(),
            _ => {
                let name = meta.name.clone().unwrap_or_default();
                return self
                    .store_new(ctx, object, ledger, how)
                    .await?
                    .ok_or_else(|| Status::already_exists(&self.gvr, &name));
            }
        };
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS {
            let mut object = object.boxed();
            name = identity::name(&base)?;
            object.metadata_mut().name = Some(name.clone());
            if let Some(written) = self.store_new(ctx, object, ledger, how).await? {
                return Ok(written);
            }
        }
        let mut status = Status::new(
            Reason::AlreadyExists,
            format!(
                "{} {name:?} already exists, the server was not able to generate a unique name for the object",
                self.gvr.group_resource()
            ),
        );
        status.details.get_or_insert_default().retry_after_seconds = Some(1);
        Err(status)
    }

    /// `None`: the name is taken.
    async fn store_new(
        &self,
        ctx: &RequestContext,
        mut object: Box<dyn Erased>,
        ledger: Option<&str>,
        how: How<'_>,
    ) -> Result<Option<Written>, Status> {
        let dry_run = how.dry_run;
        self.kind.prepare_for_create(ctx, &mut *object);
        let name = object.metadata().name.clone().unwrap_or_default();
        let mut errors =
            metadata::validate(object.metadata(), self.def().namespaced(), |name| self.kind.validate_name(name));
        errors.extend(self.kind.validate(ctx, &*object));
        self.invalid(&name, &errors)?;
        for warning in self.kind.warnings(&*object) {
            ctx.warnings.add(warning);
        }
        let mut value = self.canonical(&*object)?;
        let asked = Asked { ctx, operation: Operation::Create, name: &name, options: Options::Create(how.writing()) };
        let owned = ledger.map(Owned::Text).unwrap_or_default();
        self.admit(asked, Some((&value, owned)), None).await?;

        let key = self.key(ctx, &name)?;
        // An allocation for a name that is taken would only be given back.
        if self.find(&key, Freshness::Latest).await?.is_some() {
            return Ok(None);
        }
        let mut taken = self.reserve(asked, &value, None).await?;
        let stored = match self.kind.begin_create(ctx, &mut *object, dry_run).await {
            Ok(undo) => {
                if undo.is_some() || self.kind.allocates() {
                    value = self.canonical(&*object)?;
                }
                taken.extend(undo);
                self.put_new(&key, &*object, &value, ledger, dry_run).await
            }
            Err(status) => Err(status),
        };
        if let Ok(None) | Err(_) = &stored {
            give_back(taken).await;
        }
        stored
    }

    async fn put_new(
        &self,
        key: &str,
        object: &dyn Erased,
        value: &Value,
        ledger: Option<&str>,
        dry_run: bool,
    ) -> Result<Option<Written>, Status> {
        let json = splice(bytes(value)?, ledger).map_err(Status::internal)?;
        let object = if dry_run {
            Some(self.object(key, Revision::default(), json, object)?)
        } else {
            self.commit(key, Expect::Absent, Op::Put(json), object).await?
        };
        Ok(object.map(|object| Written { object, created: true }))
    }
}

/// Times in metadata have whole seconds.
pub(crate) fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}
