//! Requests to ask the plug-ins about, and a small world for them to read.

use std::sync::Arc;

use base_meta::{GroupVersion, Gvk, Gvr, Status};
use machinery_registry::admission::{Options, Owned, Owners, Rounds, Version, Versions, Writing};
use machinery_registry::managed::{Place, overlay};
use machinery_registry::request::Warnings;
use machinery_registry::{Attributes, Operation, RequestContext, UserInfo};
use machinery_storage::{Meta, Object, Revision};
use serde_json::{Value, json};

use super::late::{Fresh, Lookup};
use super::{Late, text};

pub(super) struct Asked {
    ctx: RequestContext,
    gvk: Gvk,
    name: &'static str,
    operation: Operation,
    versions: Known,
    rounds: Rounds,
    dry_run: bool,
    owners: Owners<'static>,
}

/// A kind whose versions differ in their names alone.
struct Known(Vec<Version>);

#[async_trait::async_trait]
impl Versions for Known {
    fn all(&self) -> Vec<Version> {
        self.0.clone()
    }

    async fn convert(&self, mut object: Value, to: &GroupVersion) -> Result<Value, Status> {
        object["apiVersion"] = json!(to.to_string());
        Ok(object)
    }

    fn settle(&self, object: Value) -> Result<Value, Status> {
        Ok(object)
    }

    fn overlay(&self, object: &Value, configuration: &Value) -> Result<Value, String> {
        let gvk = Gvk::parse(text(object, "/apiVersion"), text(object, "/kind"));
        let schema = gvk.and_then(|gvk| api::schema::by_gvk(&gvk));
        overlay(schema.map_or(Place::Deduced, Place::from), object, configuration)
    }
}

impl Asked {
    pub(super) fn new(gvr: Gvr, namespace: &str, name: &'static str, operation: Operation) -> Self {
        let namespace = (!namespace.is_empty()).then(|| Arc::from(namespace));
        let gvk = gvr.group_version().with_kind("Any");
        let ctx =
            RequestContext { user: Arc::default(), gvr, subresource: None, namespace, warnings: Default::default() };
        let versions = Known(vec![Version { gvr: ctx.gvr.clone(), gvk: gvk.clone() }]);
        Self {
            ctx,
            gvk,
            name,
            operation,
            versions,
            rounds: Rounds::default(),
            dry_run: false,
            owners: Owners::default(),
        }
    }

    pub(super) fn by(mut self, user: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        self.ctx.user = Arc::new(UserInfo { name: user.to_owned(), groups, ..UserInfo::default() });
        self
    }

    pub(super) fn of(mut self, subresource: &str) -> Self {
        self.ctx.subresource = (!subresource.is_empty()).then(|| Arc::from(subresource));
        self
    }

    /// The kind has this version too.
    pub(super) fn also(mut self, gvr: Gvr) -> Self {
        let gvk = gvr.group_version().with_kind("Any");
        self.versions.0.push(Version { gvr, gvk });
        self
    }

    pub(super) fn dry(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Whose fields the object's and the old one's are.
    pub(super) fn owned(mut self, object: &'static str, old: &'static str) -> Self {
        self.owners = Owners { object: Owned::Text(object), old: Owned::Text(old) };
        self
    }

    /// Whether the plug-ins want to be asked once more; if so, they are.
    pub(super) fn begins_second(&self) -> bool {
        self.rounds.begin_second()
    }

    pub(super) fn told(&self) -> &Warnings {
        &self.ctx.warnings
    }

    /// What was warned of.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.ctx.warnings.take()
    }

    pub(super) fn attributes<'a>(&'a self, old: Option<&'a Value>) -> Attributes<'a> {
        Attributes {
            ctx: &self.ctx,
            operation: self.operation,
            gvk: &self.gvk,
            gvr: &self.ctx.gvr,
            name: self.name,
            dry_run: self.dry_run,
            old,
            options: Options::Create(Writing::default()),
            versions: &self.versions,
            rounds: &self.rounds,
            owners: self.owners,
        }
    }
}

/// Objects by namespace and name.
struct Fixed(Vec<((String, String), Arc<Object>)>);

#[async_trait::async_trait]
impl Lookup for Fixed {
    async fn find(
        &self,
        _: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let wanted = (namespace.unwrap_or("").to_owned(), name.to_owned());
        Ok(self.0.iter().find(|(key, _)| *key == wanted).map(|(_, object)| object.clone()))
    }

    async fn list(&self, _: &RequestContext, namespace: Option<&str>, _: Fresh) -> Result<Vec<Arc<Object>>, Status> {
        let fits = |key: &(String, String)| namespace.is_none_or(|namespace| key.0 == namespace);
        Ok(self.0.iter().filter(|(key, _)| fits(key)).map(|(_, object)| object.clone()).collect())
    }

    async fn put_status(&self, _: Option<&str>, name: &str, _: &Value) -> Result<(), Status> {
        Err(Status::internal(format!("{name} is fixed")))
    }
}

type Fields = Vec<(&'static str, Arc<str>)>;

fn late(objects: Vec<(&str, &str, Value, Fields)>) -> Arc<Late> {
    let made = objects.into_iter().map(|(namespace, name, value, fields)| {
        let meta = Meta { name: name.into(), fields, ..Meta::default() };
        let object = Object::new("key".into(), Revision(1), meta, value.to_string().into()).expect("an object");
        ((namespace.to_owned(), name.to_owned()), Arc::new(object))
    });
    let late = Late::new("", "things");
    late.bind_lookup(Box::new(Fixed(made.collect())));
    Arc::new(late)
}

/// Objects as they are: namespace and name are read from their metadata.
pub(super) fn objects(all: &[Value]) -> Arc<Late> {
    let late = Late::new("", "things");
    let made = all.iter().map(|value| {
        let metadata = |field: &str| super::text(value, &format!("/metadata/{field}")).to_owned();
        let labels = value.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str().unwrap_or(""))));
        let meta = Meta { name: metadata("name").into(), labels: labels.collect(), ..Meta::default() };
        let object = Object::new("key".into(), Revision(1), meta, value.to_string().into()).expect("an object");
        ((metadata("namespace"), metadata("name")), Arc::new(object))
    });
    late.bind_lookup(Box::new(Fixed(made.collect())));
    Arc::new(late)
}

/// Name and phase of each.
pub(super) fn namespaces(all: &[(&str, &str)]) -> Arc<Late> {
    late(
        all.iter()
            .map(|(name, phase)| {
                ("", *name, json!({"metadata": {"name": name}}), vec![("status.phase", Arc::from(*phase))])
            })
            .collect(),
    )
}

/// Name and labels of each.
pub(super) fn labelled(all: &[(&str, &[(&str, &str)])]) -> Arc<Late> {
    let made = all.iter().map(|(name, labels)| {
        let value = json!({"metadata": {"name": name, "labels": labels.iter().copied().collect::<std::collections::BTreeMap<_, _>>()}});
        let labels = labels.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect();
        let meta = Meta { name: (*name).into(), labels, ..Meta::default() };
        let object = Object::new("key".into(), Revision(1), meta, value.to_string().into()).expect("an object");
        ((String::new(), (*name).to_owned()), Arc::new(object))
    });
    let late = Late::new("", "namespaces");
    late.bind_lookup(Box::new(Fixed(made.collect())));
    Arc::new(late)
}

/// Namespace, name and imagePullSecrets of each.
pub(super) fn accounts(all: &[(&str, &str, Value)]) -> Arc<Late> {
    late(
        all.iter()
            .map(|(namespace, name, secrets)| {
                (*namespace, *name, json!({"metadata": {"name": name}, "imagePullSecrets": secrets}), Vec::new())
            })
            .collect(),
    )
}

/// Gives each lookup its objects: plural, namespace, name, object.
pub(crate) fn fill(lookups: &super::Lookups, objects: &[(&str, &str, &str, Value)]) {
    for late in lookups.all() {
        let mine = objects.iter().filter(|(plural, ..)| *plural == late.name());
        let made = mine.map(|(_, namespace, name, value)| {
            let uid = value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or("");
            let node = value.pointer("/spec/nodeName").and_then(Value::as_str);
            let fields = node.map(|node| ("spec.nodeName", Arc::from(node))).into_iter().collect();
            let meta = Meta { name: (*name).into(), uid: uid.into(), fields, ..Meta::default() };
            let object = Object::new("key".into(), Revision(1), meta, value.to_string().into()).expect("an object");
            (((*namespace).to_owned(), (*name).to_owned()), Arc::new(object))
        });
        late.bind_lookup(Box::new(Fixed(made.collect())));
    }
}
