//! Which groups, versions and resources there are: the legacy documents and the aggregated one.
//!
//! Everything is encoded once per set of resources.

mod groups;

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, Response};
use machinery_registry::{Body, ResourceDef, Verb};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::nonresource::tagged;
use crate::routes::Routes;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(crate) struct Discovery {
    /// By path: `/api`, `/apis`, `/api/v1`, `/apis/apps`, `/apis/apps/v1`.
    legacy: BTreeMap<String, Bytes>,
    core: Tagged,
    groups: Tagged,
}

struct Tagged {
    tag: String,
    bytes: Bytes,
}

impl Tagged {
    fn new(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let tag = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { tag, bytes }
    }
}

impl Discovery {
    pub(crate) fn new(routes: &Routes, advertise_address: &str) -> Self {
        let groups = groups::sorted(routes);
        let mut legacy = BTreeMap::new();
        let mut group_list = Vec::new();
        let mut core = Vec::new();
        let mut others = Vec::new();
        for group in &groups {
            for version in group.versions.iter().filter(|version| version.delegated.is_none()) {
                let path = if group.name.is_empty() {
                    format!("/api/{}", version.name)
                } else {
                    format!("/apis/{}/{}", group.name, version.name)
                };
                legacy.insert(path, encode(&resource_list(group.name, version)));
            }
            let aggregated = aggregated_group(group);
            if group.name.is_empty() {
                core.push(aggregated);
                continue;
            }
            let entry = group_entry(group);
            let mut document = json!({ "kind": "APIGroup", "apiVersion": "v1" });
            merge(&mut document, &entry);
            legacy.insert(format!("/apis/{}", group.name), encode(&document));
            group_list.push(entry);
            others.push(aggregated);
        }
        let core_versions: Vec<&str> =
            groups.iter().filter(|g| g.name.is_empty()).flat_map(|g| g.versions.iter().map(|v| v.name)).collect();
        legacy.insert(
            "/api".into(),
            encode(&json!({
                "kind": "APIVersions",
                "versions": core_versions,
                "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": advertise_address }],
            })),
        );
        let list = json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": group_list });
        legacy.insert("/apis".into(), encode(&list));
        Self { legacy, core: Tagged::new(&aggregated_list(core)), groups: Tagged::new(&aggregated_list(others)) }
    }

    pub(crate) fn legacy(&self, path: &str) -> Option<Bytes> {
        self.legacy.get(path).cloned()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.legacy.keys().map(String::as_str)
    }

    /// Of `/api` or `/apis`.
    pub(crate) fn aggregated(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let document = if path == "/api" { &self.core } else { &self.groups };
        let mut response = tagged(headers, &document.tag, AGGREGATED, document.bytes.clone());
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}

fn encode(value: &Value) -> Bytes {
    value.to_string().into()
}

pub(crate) fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn group_entry(group: &groups::Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{}/{}", group.name, version.name), "version": version.name }))
        .collect();
    json!({ "name": group.name, "preferredVersion": versions.first(), "versions": versions })
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

/// What tells a client that objects written before may be encoded otherwise than now.
fn storage_version_hash(def: &ResourceDef) -> String {
    let stored = def.stored_as.as_ref().unwrap_or(&def.gvk);
    let text = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    BASE64_STANDARD.encode(&Sha256::digest(text)[..8])
}

fn resource_list(group: &str, version: &groups::Version<'_>) -> Value {
    let mut resources = Vec::new();
    for def in &version.resources {
        let mut entry = json!({
            "name": def.plural,
            "singularName": def.singular,
            "namespaced": def.namespaced(),
            "kind": def.gvk.kind,
            "verbs": verbs(def.verbs),
        });
        if !def.short_names.is_empty() {
            entry["shortNames"] = json!(def.short_names);
        }
        if !def.categories.is_empty() {
            entry["categories"] = json!(def.categories);
        }
        // Only what is stored is watched.
        if def.verbs.contains(&Verb::Watch) {
            entry["storageVersionHash"] = json!(storage_version_hash(def));
        }
        resources.push((def.plural.to_string(), entry));
        for sub in &def.subresources {
            let name = format!("{}/{}", def.plural, sub.name);
            let mut entry = json!({
                "name": name,
                "singularName": "",
                "namespaced": def.namespaced(),
                "kind": sub.gvk.kind,
                "verbs": verbs(sub.verbs),
            });
            if sub.gvk.group != def.gvk.group || sub.gvk.version != def.gvk.version {
                entry["group"] = json!(sub.gvk.group);
                entry["version"] = json!(sub.gvk.version);
            }
            resources.push((name, entry));
        }
    }
    resources.sort_by(|one, other| one.0.cmp(&other.0));
    let resources: Vec<Value> = resources.into_iter().map(|(_, entry)| entry).collect();
    let group_version = if group.is_empty() { version.name.to_owned() } else { format!("{group}/{}", version.name) };
    let mut list = json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": resources });
    if !group.is_empty() {
        // The core group's list is older than the field.
        list["apiVersion"] = json!("v1");
    }
    list
}

fn aggregated_list(items: Vec<Value>) -> Value {
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items })
}

/// Group and version are left out where they are the resource's own.
fn response_kind(gvk: &base_meta::Gvk, def: &ResourceDef) -> Value {
    if gvk.group == def.gvk.group && gvk.version == def.gvk.version {
        json!({ "group": "", "version": "", "kind": gvk.kind })
    } else {
        json!({ "group": gvk.group, "version": gvk.version, "kind": gvk.kind })
    }
}

fn aggregated_group(group: &groups::Group<'_>) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            if let Some(delegated) = version.delegated {
                let freshness = if delegated.stale { "Stale" } else { "Current" };
                let mut shown = json!({ "version": version.name, "freshness": freshness });
                if delegated.resources.as_array().is_some_and(|resources| !resources.is_empty()) {
                    shown["resources"] = delegated.resources.clone();
                }
                return shown;
            }
            let resources: Vec<Value> = version.resources.iter().map(|def| aggregated_resource(def)).collect();
            json!({ "version": version.name, "freshness": "Current", "resources": resources })
        })
        .collect();
    let metadata = if group.name.is_empty() { json!({}) } else { json!({ "name": group.name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn aggregated_resource(def: &ResourceDef) -> Value {
    let mut entry = json!({
        "resource": def.plural,
        "responseKind": response_kind(&def.gvk, def),
        "scope": if def.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": def.singular,
        "verbs": verbs(def.verbs),
    });
    if !def.short_names.is_empty() {
        entry["shortNames"] = json!(def.short_names);
    }
    if !def.categories.is_empty() {
        entry["categories"] = json!(def.categories);
    }
    let mut subresources: Vec<_> = def.subresources.iter().collect();
    subresources.sort_by_key(|sub| sub.name);
    if !subresources.is_empty() {
        let entries = subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": response_kind(&sub.gvk, def),
                "verbs": verbs(sub.verbs),
            })
        });
        entry["subresources"] = entries.collect();
    }
    entry
}
