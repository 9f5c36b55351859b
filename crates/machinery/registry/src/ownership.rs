//! Who owns the fields of an object after a write: [`managed`](crate::managed) at work on the write path.

use std::borrow::Cow;

use base_meta::{Reason, Status, schema};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use crate::admission::{Owned, Writing};
use crate::codec::Stored;
use crate::core::Core;
use crate::dialect::Dialect;
use crate::managed::{
    Applied, Grown, Ledger, OneVersion, Operation, Place, Set, Versions, Write, Writer, applied, created, overlay,
    updated,
};
use crate::update::Part;
use crate::{FieldValidation, RequestContext, UserInfo};

/// How a write is made, beyond its object.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) dry_run: bool,
    /// Who answers for the fields it sets.
    pub(crate) manager: Option<&'a str>,
    /// Of the request; the stored one may be another.
    pub(crate) api_version: &'a str,
    pub(crate) validation: FieldValidation,
}

impl<'a> How<'a> {
    /// As admission is told.
    pub(crate) fn writing(&self) -> Writing<'a> {
        Writing { dry_run: self.dry_run, manager: self.manager, validation: self.validation }
    }
}

/// What a write leaves of the ledger.
#[derive(Clone, Debug, Default)]
pub(crate) enum Ownership {
    /// As it is stored.
    #[default]
    Same,
    Changed(Ledger),
}

/// What is known of a write's ledger while plug-ins look at it.
pub(crate) trait Owning: Send {
    fn owned<'a>(&'a self, old: Option<&'a Stored>) -> Owned<'a>;
}

impl Owning for Option<Ledger> {
    fn owned<'a>(&'a self, _: Option<&'a Stored>) -> Owned<'a> {
        self.as_ref().map(Owned::Ledger).unwrap_or_default()
    }
}

impl Owning for Ownership {
    fn owned<'a>(&'a self, old: Option<&'a Stored>) -> Owned<'a> {
        match self {
            Self::Same => old.map(|old| Owned::Stored(&old.object)).unwrap_or_default(),
            Self::Changed(ledger) => Owned::Ledger(ledger),
        }
    }
}

/// Every version is read as the request's: paths of fields that versions name alike are the same ones.
struct Alike<'s>(OneVersion<'s>);

impl Versions for Alike<'_> {
    fn place(&self, _: &str) -> Option<Place<'_>> {
        Some(self.0.place)
    }

    fn convert<'v>(&self, object: &'v Value, _: &str) -> Result<Option<Cow<'v, Value>>, String> {
        Ok(Some(Cow::Borrowed(object)))
    }
}

impl Dialect {
    /// Runs `with` on the schema, as far as `objects` reach into it.
    fn with_schema<T>(&self, objects: &[&Value], with: impl FnOnce(&dyn Versions) -> T) -> T {
        let api_version = &self.def.gvk.api_version();
        match &self.custom {
            None => with(&Alike(OneVersion { api_version, place: Place::from(self.def.schema) })),
            Some(custom) => {
                let grown = Grown::new(&**custom, self.def.schema, objects);
                with(&Alike(OneVersion { api_version, place: Place::Run(&grown) }))
            }
        }
    }

    /// Merges `configuration` into `object`, with upstream's words for what is wrong with it.
    pub(crate) fn overlay(&self, object: &Value, configuration: &Value) -> Result<Value, String> {
        self.with_schema(&[object, configuration], |kind| {
            let place = kind.place(&self.def.gvk.api_version()).unwrap_or(Place::Deduced);
            overlay(place, object, configuration)
        })
    }

    /// An object of the kind before anything is set.
    fn blank(&self) -> Value {
        let mut blank = Value::Object(Map::new());
        schema::normalise(self.def.schema, &mut blank);
        blank["apiVersion"] = self.def.gvk.api_version().into();
        blank["kind"] = self.def.gvk.kind.as_ref().into();
        blank
    }
}

/// What a client sends as managedFields.
pub(crate) fn take_sent(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields").filter(|sent| !sent.is_null())
}

/// An empty list, or one empty entry: the ledger is to be forgotten.
fn is_reset(sent: &Value) -> bool {
    let empty = |entry: &Value| entry.as_object().is_some_and(|entry| entry.values().all(Value::is_null));
    sent.as_array().is_some_and(|entries| entries.is_empty() || (entries.len() == 1 && entries.iter().all(empty)))
}

/// Who writes when neither the request nor its user agent says, as a part of this process does: the name that upstream's
/// part of that identity goes by.
fn manager_of(user: &UserInfo) -> &str {
    let name = user.name.strip_prefix("system:").unwrap_or(&user.name);
    if let Some(account) = name.strip_prefix("serviceaccount:") {
        return account.rsplit(':').next().unwrap_or(account);
    }
    match name.split(':').next().unwrap_or(name) {
        "node" => "kubelet",
        "apiserver" => "kube-apiserver",
        first => first,
    }
}

fn now() -> Box<str> {
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

fn writer(ctx: &RequestContext, how: How<'_>, operation: Operation) -> Writer {
    let manager = how.manager.unwrap_or_else(|| manager_of(&ctx.user));
    Writer {
        manager: Cow::Owned(manager.to_owned()),
        operation,
        api_version: Cow::Owned(how.api_version.to_owned()),
        subresource: Cow::Owned(ctx.subresource.as_deref().unwrap_or_default().to_owned()),
    }
}

impl Core {
    /// The ledger of a new object, which looks like `object` before anybody else has a say.
    pub(crate) fn own_new(
        &self,
        ctx: &RequestContext,
        how: How<'_>,
        sent: Option<&Value>,
        object: &Value,
    ) -> Option<Ledger> {
        let status = self.def().subresource("status").is_some();
        let blank = self.blank.get_or_init(|| self.dialect.blank());
        let writer = writer(ctx, how, Operation::Update);
        let sent =
            sent.filter(|sent| !is_reset(sent)).and_then(|sent| Ledger::sent(sent, &Ledger::default()).ok().flatten());
        self.dialect.with_schema(&[object], |kind| match sent {
            Some(sent) if !sent.is_empty() => {
                let reset = if status { Set::of_fields(&[&["status"]]) } else { Set::default() };
                let write = Write { writer, time: now(), reset };
                let changed = updated(kind, blank, object, &sent, &write);
                changed.ok().flatten().or(Some(sent))
            }
            _ => {
                let reset: &[&str] = if status { &["status"] } else { &[] };
                let text = created(kind.place(how.api_version)?, blank, object, reset, &writer, &now())?;
                Ledger::parse(&text).ok()
            }
        })
    }

    /// What changing the stored object to `object` does to its ledger.
    pub(crate) fn own_changed(
        &self,
        ctx: &RequestContext,
        how: How<'_>,
        stored: &Stored,
        sent: Option<&Value>,
        object: &Value,
    ) -> Result<Ownership, Status> {
        let kept = stored.ledger();
        // A subresource does not touch what the client sends of it.
        let sent = sent.filter(|_| ctx.subresource.is_none());
        let (ledger, replaced) = match sent {
            None => (kept, false),
            Some(sent) if is_reset(sent) => (Ledger::default(), true),
            // One that cannot be read, or says nothing, is as good as not sent.
            Some(sent) => match Ledger::sent(sent, &kept) {
                Ok(Some(sent)) if !sent.is_empty() => (sent, true),
                _ => (kept, false),
            },
        };
        // Nobody is recorded: it stays so until the first apply.
        if ledger.is_empty() {
            return Ok(if replaced { Ownership::Changed(ledger) } else { Ownership::Same });
        }
        let live = self.value_of(stored)?;
        let write = Write { writer: writer(ctx, how, Operation::Update), time: now(), reset: Set::default() };
        let changed = self.dialect.with_schema(&[live, object], |kind| updated(kind, live, object, &ledger, &write));
        match changed {
            Ok(Some(changed)) => Ok(Ownership::Changed(changed)),
            Ok(None) if replaced => Ok(Ownership::Changed(ledger)),
            Ok(None) => Ok(Ownership::Same),
            Err(error) => {
                tracing::error!(key = &*stored.object.key, %error, "the managers of an object's fields are not kept up");
                Ok(Ownership::Same)
            }
        }
    }

    /// What applying `config` makes of `live`, a document of the dialect without a ledger; `None`: of nothing.
    pub(crate) fn apply_config(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        how: How<'_>,
        applying: Applying<'_>,
        live: Option<(&Value, &Ledger)>,
    ) -> Result<Applied, Status> {
        let Applying { config, part, force } = applying;
        let reset = match part {
            Part::Whole if dialect.def.subresource("status").is_none() => Set::default(),
            Part::Whole => Set::of_fields(&[&["status"]]),
            Part::Status => {
                let kept = ["apiVersion", "kind", "metadata", "status"];
                let names = config.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
                let names: Vec<[&str; 1]> = names.filter(|name| !kept.contains(name)).map(|name| [name]).collect();
                Set::of_fields(&names.iter().map(|name| &name[..]).collect::<Vec<_>>())
            }
        };
        let write = Write { writer: writer(ctx, how, Operation::Apply), time: now(), reset };
        let blank = dialect.blank();
        let nobody = Ledger::default();
        let (live, ledger) = live.unwrap_or((&blank, &nobody));
        let result =
            dialect.with_schema(&[live, config], |kind| applied(kind, live, config, ledger, &write, force, &blank));
        result.map_err(|error| {
            let gvk = &dialect.def.gvk;
            let name = config["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = ctx.namespace.as_deref().unwrap_or_default();
            error.status(&format!("{namespace}/{name}; {}/{}, Kind={}", gvk.group, gvk.version, gvk.kind))
        })
    }
}

/// A configuration to apply.
#[derive(Clone, Copy)]
pub(crate) struct Applying<'a> {
    pub(crate) config: &'a Value,
    pub(crate) part: Part,
    pub(crate) force: bool,
}

/// Checks that an applied configuration is one: of the request's kind, with no say on the ledger.
pub(crate) fn check_config(dialect: &Dialect, config: &Value) -> Result<(), Status> {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    let gvk = &dialect.def.gvk;
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version != gvk.api_version() || kind != gvk.kind {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
    }
    match config.pointer("/metadata/managedFields") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(Status::new(Reason::BadRequest, "metadata.managedFields must be nil")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_this_process_go_by_upstreams_names() {
        for (user, manager) in [
            ("system:kube-controller-manager", "kube-controller-manager"),
            ("system:node:one", "kubelet"),
            ("system:apiserver", "kube-apiserver"),
            ("system:serviceaccount:kube-system:job-controller", "job-controller"),
            ("alice", "alice"),
            ("", ""),
        ] {
            assert_eq!(manager_of(&UserInfo { name: user.into(), ..UserInfo::default() }), manager, "{user}");
        }
    }

    #[test]
    fn a_reset_is_an_empty_list_or_one_empty_entry() {
        use serde_json::json;
        for (sent, reset) in [
            (json!([]), true),
            (json!([{}]), true),
            (json!([{"manager": null}]), true),
            (json!([{}, {}]), false),
            (json!([{"manager": "a"}]), false),
            (json!({}), false),
        ] {
            assert_eq!(is_reset(&sent), reset, "{sent}");
        }
    }

    #[test]
    fn sent_ledgers_are_taken_out() {
        let mut object = serde_json::json!({"metadata": {"name": "a", "managedFields": []}});
        assert_eq!(take_sent(&mut object), Some(serde_json::json!([])));
        assert_eq!(take_sent(&mut object), None);
        assert_eq!(take_sent(&mut serde_json::json!({"metadata": {"managedFields": null}})), None);
        assert_eq!(take_sent(&mut serde_json::json!([])), None);
    }
}
