//! OpenAPI v2 against upstream's: every definition that is published, every path of a served resource, every text
//! that `kubectl explain` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

use super::difference::difference;
use super::exceptions;
use super::server::Server;

/// How many definitions and paths differ.
pub(super) async fn check(server: &Server, swagger: &Path) -> anyhow::Result<usize> {
    let bytes = std::fs::read(swagger).with_context(|| format!("reading {}", swagger.display()))?;
    let theirs: Value = serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", swagger.display()))?;
    let ours = server.get("/openapi/v2", "application/json").await?;
    // Older kubectl takes it in no other form.
    server.bytes("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf").await?;
    let mut failed = 0;
    let mut fail = |what: String| {
        failed += 1;
        eprintln!("FAIL OpenAPI: {what}");
    };
    let empty = Map::new();
    let part = |of: &'static str, name: &str| -> Map<String, Value> {
        let document = if of == "ours" { &ours } else { &theirs };
        let all = document[name].as_object().unwrap_or(&empty);
        all.iter()
            .filter(|(name, _)| !exceptions::ours(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };

    let (our_definitions, their_definitions) = (part("ours", "definitions"), part("theirs", "definitions"));
    for (name, schema) in &our_definitions {
        match their_definitions.get(name) {
            Some(expected) => {
                let (ours, theirs) = (comparable(name, schema), comparable(name, expected));
                if ours != theirs {
                    fail(format!("{name}{}", difference("", &ours, &theirs)));
                }
                if !kinds(schema).is_subset(&kinds(expected)) {
                    fail(format!("{name}: published as kinds that it is not upstream"));
                }
            }
            None => fail(format!("{name} is not upstream's")),
        }
    }

    let mut texts = 0;
    for (name, schema) in our_definitions.iter().filter(|(name, _)| exceptions::prose(name).is_none()) {
        let Some(expected) = their_definitions.get(name) else { continue };
        let (ours, theirs) = (prose(schema), prose(expected));
        texts += theirs.len();
        for (field, text) in &theirs {
            if ours.get(field) != Some(text) {
                fail(format!("{name} {field}: described otherwise than upstream's"));
            }
        }
    }

    let (our_paths, their_paths) = (part("ours", "paths"), part("theirs", "paths"));
    for (path, item) in &our_paths {
        match their_paths.get(path) {
            Some(expected) => {
                let (ours, theirs) = (operations(item), operations(expected));
                if ours != theirs {
                    fail(format!("{path}{}", difference("", &ours, &theirs)));
                }
            }
            None => fail(format!("{path} is not upstream's")),
        }
    }
    let served: BTreeSet<String> = our_paths.keys().filter_map(|path| resource(path)).collect();
    let mut excused = 0;
    for path in their_paths.keys().filter(|path| !our_paths.contains_key(*path)) {
        if !resource(path).is_some_and(|resource| served.contains(&resource)) {
            continue;
        }
        let known = subresource(path).is_some_and(|sub| exceptions::RESOURCES.iter().any(|(name, _)| *name == sub));
        if known || exceptions::path(path).is_some() {
            excused += 1;
        } else {
            fail(format!("{path} is missing"));
        }
    }
    eprintln!(
        "OpenAPI v2: {} definitions, {texts} texts, {} paths, {failed} differ, {excused} paths missing with a reason",
        our_definitions.len(),
        our_paths.len()
    );
    Ok(failed)
}

/// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale` → `apps/v1 deployments`.
fn resource(path: &str) -> Option<String> {
    let path = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
    let parts: Vec<&str> = path.split('/').collect();
    let own = if path.starts_with("v1/") { 1 } else { 2 };
    let (version, rest) = parts.split_at_checked(own)?;
    let plural = match rest {
        ["namespaces", "{namespace}", plural, ..] | ["watch", "namespaces", "{namespace}", plural, ..] => plural,
        ["watch", plural, ..] | [plural, ..] if !plural.is_empty() => plural,
        _ => return None,
    };
    Some(format!("{} {plural}", version.join("/")))
}

/// The subresource's name in discovery, of a path that has one: `v1 nodes/proxy`.
fn subresource(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/{name}/")?;
    Some(format!("{}/{}", resource(path)?, rest.split('/').next()?))
}

/// Without prose, and with sets in one order.
fn comparable(name: &str, schema: &Value) -> Value {
    let mut schema = schema.clone();
    strip(&mut schema);
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("x-kubernetes-group-version-kind");
        // What a reference stands for says nothing of its own where upstream writes only prose.
        if name.ends_with(".JSON") || name.contains("JSONSchemaPropsOr") {
            fields.remove("type");
        }
    }
    schema
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("description").is_some_and(Value::is_string) {
                fields.remove("description");
            }
            // Which clients do not read.
            fields.remove("x-kubernetes-unions");
            if let Some(Value::Array(required)) = fields.get_mut("required") {
                required.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// What a definition and its fields are described as, by the letters and figures: doc comments are laid out in their own way.
fn prose(schema: &Value) -> BTreeMap<&str, String> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields = fields.map(|(name, field)| (name.as_str(), &field["description"]));
    let all = std::iter::once(("", &schema["description"])).chain(fields);
    let letters = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect();
    all.filter_map(|(name, text)| Some((name, letters(text.as_str()?)))).collect()
}

fn kinds(schema: &Value) -> BTreeSet<String> {
    let kinds = schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
    kinds.filter(|kind| kind["group"] != exceptions::OUR_GROUP).map(Value::to_string).collect()
}

/// Of each method: what it does, to which kind, what it takes and what it answers with.
fn operations(item: &Value) -> Value {
    let methods = ["get", "post", "put", "patch", "delete", "head", "options"];
    let all = methods.into_iter().filter_map(|method| {
        let operation = item.get(method)?;
        let body = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["in"] == "body" || one["$ref"].as_str().is_some_and(|name| name.contains("/body-")));
        let body = body.map(|body| body["schema"]["$ref"].clone()).unwrap_or_default();
        let body = if operation["x-kubernetes-action"].as_str().is_some_and(|action| matches!(action, "post" | "put")) {
            body
        } else {
            Value::Null
        };
        let summary = serde_json::json!({
            "action": operation["x-kubernetes-action"],
            "kind": operation["x-kubernetes-group-version-kind"],
            "body": body,
            "answer": operation["responses"]["200"]["schema"],
        });
        Some((method.to_owned(), summary))
    });
    Value::Object(all.collect())
}
