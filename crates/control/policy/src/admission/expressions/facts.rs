//! What an expression sees of a request. A value is made when the first expression reads it, and shared by all.

use std::sync::OnceLock;

use base_meta::{Gvk, Gvr};
use machinery_cel::{Key, ResourceCheck, Val, untyped};
use machinery_registry::{Attributes, UserInfo};
use serde_json::Value;

use super::super::matching::{Request, namespace_of};

/// A JSON document that expressions may read; nothing where there is none.
pub(crate) struct Document<'a> {
    json: Option<&'a Value>,
    value: OnceLock<Val>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(json: Option<&'a Value>) -> Self {
        Self { json, value: OnceLock::new() }
    }

    pub(super) fn value(&self) -> Val {
        self.value.get_or_init(|| self.json.map_or(Val::Null, untyped)).clone()
    }
}

/// All of a request but the object, which mutations change.
pub(crate) struct Facts<'a> {
    attributes: &'a Attributes<'a>,
    kind: &'a Gvk,
    resource: &'a Gvr,
    old: Document<'a>,
    request: OnceLock<Val>,
    namespace: Option<&'a Value>,
    namespace_value: OnceLock<Val>,
}

impl<'a> Facts<'a> {
    /// `kind` and `resource`: as what a rule matched the request. `namespace`: the object's, as it is stored.
    pub(crate) fn new(
        attributes: &'a Attributes<'a>,
        kind: &'a Gvk,
        resource: &'a Gvr,
        old: Option<&'a Value>,
        namespace: Option<&'a Value>,
    ) -> Self {
        let (request, namespace_value) = (OnceLock::new(), OnceLock::new());
        Self { attributes, kind, resource, old: Document::new(old), request, namespace, namespace_value }
    }

    pub(super) fn old(&self) -> Val {
        self.old.value()
    }

    pub(super) fn request(&self) -> Val {
        self.request.get_or_init(|| request(self.attributes, self.kind, self.resource)).clone()
    }

    pub(super) fn namespace(&self) -> Val {
        self.namespace_value.get_or_init(|| self.namespace.map_or(Val::Null, namespace)).clone()
    }

    /// What `authorizer.requestResource` asks about.
    pub(super) fn check(&self) -> ResourceCheck {
        let Attributes { gvr, name, ctx, .. } = self.attributes;
        ResourceCheck {
            group: gvr.group.to_string(),
            resource: gvr.resource.to_string(),
            subresource: ctx.subresource.as_deref().unwrap_or_default().to_owned(),
            namespace: namespace_of(self.attributes).to_owned(),
            name: (*name).to_owned(),
            ..ResourceCheck::default()
        }
    }
}

fn request(attributes: &Attributes<'_>, kind: &Gvk, resource: &Gvr) -> Val {
    let gvk = |gvk: &Gvk| {
        Val::fields([
            ("group", Val::from(&*gvk.group)),
            ("version", Val::from(&*gvk.version)),
            ("kind", Val::from(&*gvk.kind)),
        ])
    };
    let gvr = |gvr: &Gvr| {
        Val::fields([
            ("group", Val::from(&*gvr.group)),
            ("version", Val::from(&*gvr.version)),
            ("resource", Val::from(&*gvr.resource)),
        ])
    };
    let own = Request::of(attributes, None);
    let own = own.requested();
    let options = attributes.options.to_value();
    let mut fields = vec![
        ("kind", gvk(kind)),
        ("resource", gvr(resource)),
        ("requestKind", gvk(&own.gvk)),
        ("requestResource", gvr(&own.gvr)),
        ("operation", Val::from(attributes.operation.as_str())),
        ("userInfo", user(&attributes.ctx.user)),
        ("dryRun", Val::Bool(attributes.dry_run)),
        ("options", options.as_ref().map_or(Val::Null, untyped)),
    ];
    let subresource = attributes.ctx.subresource.as_deref().unwrap_or_default();
    for (name, text) in [
        ("subResource", subresource),
        ("requestSubResource", subresource),
        ("name", attributes.name),
        ("namespace", namespace_of(attributes)),
    ] {
        if !text.is_empty() {
            fields.push((name, Val::from(text)));
        }
    }
    Val::fields(fields)
}

fn user(user: &UserInfo) -> Val {
    let texts = |texts: &[String]| Val::list(texts.iter().map(|text| Val::from(text.as_str())).collect());
    let mut fields = vec![("username", Val::from(user.name.as_str()))];
    if !user.uid.is_empty() {
        fields.push(("uid", Val::from(user.uid.as_str())));
    }
    if !user.groups.is_empty() {
        fields.push(("groups", texts(&user.groups)));
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (Key::String(key.as_str().into()), texts(values)));
        fields.push(("extra", Val::map(extra)));
    }
    Val::fields(fields)
}

/// What upstream lets an expression see of a Namespace's metadata.
const SEEN: &[&str] = &[
    "name",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "finalizers",
];

fn namespace(object: &Value) -> Val {
    let metadata = SEEN.iter().filter_map(|name| Some((*name, object["metadata"].get(name)?)));
    let metadata = metadata.map(|(name, value)| {
        // The two are declared as times.
        let time = value.as_str().filter(|_| name.ends_with("Timestamp")).and_then(|text| text.parse().ok());
        (name, time.map_or_else(|| untyped(value), Val::Timestamp))
    });
    let mut fields = vec![("metadata", Val::fields(metadata))];
    for name in ["spec", "status"] {
        fields.push((name, object.get(name).map_or_else(|| Val::map([]), untyped)));
    }
    Val::fields(fields)
}
