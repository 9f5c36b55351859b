//! One request's events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base_meta::Status;
use http::header::USER_AGENT;
use jiff::Timestamp;
use machinery_registry::UserInfo;
use serde_json::{Map, Value, json};

use super::policy::{Stage, Wanted};
use super::{Level, Sink};
use crate::authorization::{Action, Attributes};

/// What the request says of itself.
pub(crate) struct Asked<'a> {
    pub(crate) id: &'a str,
    pub(crate) parts: &'a http::request::Parts,
    /// Whom the caller acts as, where that is another.
    pub(crate) impersonated: Option<&'a UserInfo>,
}

/// What is known so far; each stage is sent with it.
pub(crate) struct Record {
    sink: Arc<dyn Sink>,
    wanted: Wanted,
    event: Map<String, Value>,
}

impl Record {
    pub(super) fn open(sink: Arc<dyn Sink>, wanted: Wanted, attributes: &Attributes<'_>, asked: Asked<'_>) -> Self {
        let Asked { id, parts, impersonated } = asked;
        let mut event = Map::new();
        let mut put = |name: &str, value: Value| drop(event.insert(name.into(), value));
        put("kind", json!("Event"));
        put("apiVersion", json!("audit.k8s.io/v1"));
        put("level", json!(wanted.level.name()));
        put("auditID", json!(id));
        put("requestURI", json!(parts.uri.path_and_query().map_or("/", |uri| uri.as_str())));
        put("verb", json!(attributes.verb));
        put("user", user(attributes.user));
        if let Some(impersonated) = impersonated {
            put("impersonatedUser", user(impersonated));
        }
        if let Some(peer) = parts.extensions.get::<SocketAddr>() {
            put("sourceIPs", json!([peer.ip().to_string()]));
        }
        if let Some(agent) = parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
            put("userAgent", json!(agent));
        }
        if let Action::Resource { group, version, resource, subresource, namespace, name } = attributes.action {
            let members = [
                ("resource", resource),
                ("namespace", namespace),
                ("name", name),
                ("apiGroup", group),
                ("apiVersion", version),
                ("subresource", subresource),
            ];
            let reference = members.into_iter().filter(|(_, value)| !value.is_empty());
            put("objectRef", Value::Object(reference.map(|(key, value)| (key.to_owned(), json!(value))).collect()));
        }
        put("requestReceivedTimestamp", json!(now()));
        let record = Self { sink, wanted, event };
        record.send(Stage::RequestReceived);
        record
    }

    pub(crate) fn level(&self) -> Level {
        self.wanted.level
    }

    pub(crate) fn request_object(&mut self, object: Value) {
        self.object("requestObject", object);
    }

    pub(crate) fn response_object(&mut self, object: Value) {
        self.object("responseObject", object);
    }

    fn object(&mut self, name: &str, mut object: Value) {
        if self.wanted.omit_managed_fields {
            omit_managed_fields(&mut object);
        }
        self.event.insert(name.to_owned(), object);
    }

    pub(crate) fn answered(&mut self, code: u16, status: Option<&Status>) {
        let mut response = json!({ "metadata": {}, "code": code });
        if let Some(status) = status {
            response["status"] = json!("Failure");
            response["message"] = json!(status.message);
            response["reason"] = serde_json::to_value(status.reason).unwrap_or_default();
        }
        self.event.insert("responseStatus".into(), response);
        let decision = if code == 403 { "forbid" } else { "allow" };
        self.annotate([("authorization.k8s.io/decision".to_owned(), decision.to_owned())].into());
    }

    pub(crate) fn annotate(&mut self, annotations: BTreeMap<String, String>) {
        let known = self.event.entry("annotations").or_insert_with(|| json!({}));
        for (key, value) in annotations {
            known[key] = value.into();
        }
    }

    pub(crate) fn started(&self) {
        self.send(Stage::ResponseStarted);
    }

    pub(crate) fn complete(self) {
        self.send(Stage::ResponseComplete);
    }

    pub(crate) fn panicked(self) {
        self.send(Stage::Panic);
    }

    fn send(&self, stage: Stage) {
        if self.wanted.omit_stages.contains(&stage) {
            return;
        }
        let mut event = self.event.clone();
        event.insert("stage".into(), json!(stage.name()));
        event.insert("stageTimestamp".into(), json!(now()));
        let mut line = Value::Object(event).to_string().into_bytes();
        line.push(b'\n');
        self.sink.write(line);
    }
}

fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

fn user(user: &UserInfo) -> Value {
    let mut value = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

fn omit_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(omit_managed_fields);
    }
}
