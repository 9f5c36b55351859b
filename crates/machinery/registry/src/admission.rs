//! Admission: the last word on a write, after authorization, before storage. Plug-ins live in `control/policy`.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base_meta::{GroupVersion, Gvk, Gvr, Status};
use machinery_storage::Object;
use serde_json::{Map, Value, json};

use crate::managed::{Ledger, cut};
use crate::request::Propagation;
use crate::strategy::Undo;
use crate::{DeleteOptions, FieldValidation, RequestContext};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// As rules of webhooks and policies write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a plug-in may look at.
pub struct Attributes<'a> {
    /// `gvr` in it is the request's, which may be another version of the kind than the stored one.
    pub ctx: &'a RequestContext,
    pub operation: Operation,
    /// Of the object that plug-ins are shown: the stored version's, or that of a subresource's own body (`Scale`,
    /// `Eviction`, `PodExecOptions`).
    pub gvk: &'a Gvk,
    /// Of the stored version.
    pub gvr: &'a Gvr,
    pub name: &'a str,
    pub dry_run: bool,
    /// The stored object, for update and delete.
    pub old: Option<&'a Value>,
    pub options: Options<'a>,
    /// The kind's versions, for plug-ins that want the object in another.
    pub versions: &'a dyn Versions,
    pub rounds: &'a Rounds,
    pub owners: Owners<'a>,
}

/// Who owns which fields of an object: its `metadata.managedFields`, which plug-ins are shown it without.
#[derive(Clone, Copy, Default)]
pub enum Owned<'a> {
    #[default]
    Nobody,
    Ledger(&'a Ledger),
    /// As it is stored.
    Text(&'a str),
    Stored(&'a Object),
}

#[derive(Clone, Copy, Default)]
pub struct Owners<'a> {
    /// Of the object as the client wants it: what plug-ins change has no owner yet.
    pub object: Owned<'a>,
    pub old: Owned<'a>,
}

impl Owned<'_> {
    /// The list, where there is one.
    pub fn fields(self) -> Option<Value> {
        let parse = |text: &str| serde_json::from_str(text).ok();
        let fields: Option<Value> = match self {
            Self::Nobody => None,
            Self::Ledger(ledger) => parse(&ledger.print()),
            Self::Text(text) => parse(text),
            Self::Stored(object) => cut(object.json()).1.and_then(parse),
        };
        fields.filter(|fields| fields.as_array().is_some_and(|entries| !entries.is_empty()))
    }
}

/// The request's own options, as far as plug-ins are told of them.
#[derive(Clone, Copy, Debug)]
pub enum Options<'a> {
    Create(Writing<'a>),
    /// Also of a patch that changes an object, as upstream's.
    Update(Writing<'a>),
    Delete(&'a DeleteOptions),
    /// A connection has none.
    None,
}

/// Of a create or an update.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing<'a> {
    pub dry_run: bool,
    pub manager: Option<&'a str>,
    pub validation: FieldValidation,
}

impl Options<'_> {
    /// The `meta.k8s.io/v1` object: `CreateOptions`, `UpdateOptions`, `DeleteOptions`.
    pub fn to_value(self) -> Option<Value> {
        let mut value = Map::new();
        let mut put = |name: &str, field: Value| drop(value.insert(name.to_owned(), field));
        let (kind, dry_run) = match self {
            Self::None => return None,
            Self::Create(Writing { dry_run, .. }) => ("CreateOptions", dry_run),
            Self::Update(Writing { dry_run, .. }) => ("UpdateOptions", dry_run),
            Self::Delete(options) => ("DeleteOptions", options.dry_run),
        };
        put("kind", kind.into());
        put("apiVersion", "meta.k8s.io/v1".into());
        if dry_run {
            put("dryRun", json!(["All"]));
        }
        match self {
            Self::Create(writing) | Self::Update(writing) => {
                if let Some(manager) = writing.manager {
                    put("fieldManager", manager.into());
                }
                match writing.validation {
                    FieldValidation::Ignore => put("fieldValidation", "Ignore".into()),
                    FieldValidation::Strict => put("fieldValidation", "Strict".into()),
                    // The default, whether the client named it or not.
                    FieldValidation::Warn => {}
                }
            }
            Self::Delete(options) => {
                if let Some(seconds) = options.grace_period_seconds {
                    put("gracePeriodSeconds", seconds.into());
                }
                if let Some(propagation) = options.propagation {
                    let name = match propagation {
                        Propagation::Orphan => "Orphan",
                        Propagation::Background => "Background",
                        Propagation::Foreground => "Foreground",
                    };
                    put("propagationPolicy", name.into());
                }
                let conditions = [("uid", &options.uid), ("resourceVersion", &options.resource_version)];
                let conditions: Map<String, Value> = conditions
                    .into_iter()
                    .filter_map(|(name, value)| value.clone().map(|value| (name.to_owned(), value.into())))
                    .collect();
                if !conditions.is_empty() {
                    put("preconditions", conditions.into());
                }
            }
            Self::None => {}
        }
        Some(value.into())
    }
}

/// One version of a resource: how requests name it, and the kind of the body they send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub gvr: Gvr,
    pub gvk: Gvk,
}

/// The versions of a kind, to plug-ins.
#[async_trait::async_trait]
pub trait Versions: Send + Sync {
    /// The stored one first. Of a subresource, the kind of its body in each.
    fn all(&self) -> Vec<Version>;

    /// An object of any of them in the version `to`.
    async fn convert(&self, object: Value, to: &GroupVersion) -> Result<Value, Status>;

    /// What decoding makes of an object of the stored version that a plug-in has changed: unknown fields gone, defaults set.
    fn settle(&self, object: Value) -> Result<Value, Status>;

    /// An applied configuration merged into an object of the same version, and nobody recorded as its owner. `Err` has
    /// upstream's words for what is wrong with the configuration.
    fn overlay(&self, object: &Value, configuration: &Value) -> Result<Value, String>;
}

/// Mutating plug-ins are asked once more, all of them, where one that came late has changed what the first had seen.
/// Told here, and kept from the first round to the second what a plug-in must remember of it.
#[derive(Default)]
pub struct Rounds(Mutex<State>);

#[derive(Default)]
struct State {
    second: bool,
    wanted: bool,
    kept: BTreeMap<&'static str, Box<dyn Any + Send>>,
}

impl Rounds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the second round.
    pub fn is_second(&self) -> bool {
        self.lock().second
    }

    /// Asks for a second round; in the second, nothing.
    pub fn want_second(&self) {
        self.lock().wanted = true;
    }

    /// Whether one was asked for; it then begins.
    pub fn begin_second(&self) -> bool {
        let mut state = self.lock();
        let begins = state.wanted && !state.second;
        state.second = begins;
        begins
    }

    /// What `plugin` kept last.
    pub fn take<T: Default + 'static>(&self, plugin: &'static str) -> T {
        let kept = self.lock().kept.remove(plugin);
        kept.and_then(|kept| kept.downcast().ok()).map(|kept| *kept).unwrap_or_default()
    }

    pub fn keep<T: Send + 'static>(&self, plugin: &'static str, value: T) {
        self.lock().kept.insert(plugin, Box::new(value));
    }
}

/// One plug-in. A write passes all `mutate`s in order, is validated, passes all `validate`s, and at last all `reserve`s.
#[async_trait::async_trait]
pub trait Admission: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether this plug-in looks at such requests; the object is not even converted for one that does not.
    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool;

    async fn mutate(&self, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// `object` is `None` for delete.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }

    /// Whether [`Self::reserve`] ever does anything.
    fn reserves(&self) -> bool {
        false
    }

    /// Takes what the write will use up, once nothing but the store can refuse it. The [`Undo`] runs if nothing is
    /// stored, and is dropped once the object is. Not called for deletions.
    async fn reserve(&self, _attributes: &Attributes<'_>, _object: &Value) -> Result<Option<Undo>, Status> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_as_webhooks_see_them() {
        let writing = Writing { dry_run: true, manager: Some("kubectl"), validation: FieldValidation::Strict };
        assert_eq!(
            Options::Create(writing).to_value(),
            Some(json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"],
                "fieldManager": "kubectl", "fieldValidation": "Strict"}))
        );
        let update = Options::Update(Writing::default()).to_value();
        assert_eq!(update, Some(json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"})));
        let delete = DeleteOptions {
            grace_period_seconds: Some(0),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".into()),
            ..DeleteOptions::default()
        };
        assert_eq!(
            Options::Delete(&delete).to_value(),
            Some(json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0,
                "propagationPolicy": "Foreground", "preconditions": {"uid": "u"}}))
        );
        assert_eq!(Options::None.to_value(), None);
    }

    #[test]
    fn a_second_round_comes_once() {
        let rounds = Rounds::default();
        assert!(!rounds.begin_second());
        rounds.want_second();
        rounds.keep("a", vec![1]);
        assert!(!rounds.is_second() && rounds.begin_second() && rounds.is_second());
        rounds.want_second();
        assert!(!rounds.begin_second());
        assert_eq!(rounds.take::<Vec<i32>>("a"), [1]);
        assert!(rounds.take::<Vec<i32>>("a").is_empty());
    }
}
