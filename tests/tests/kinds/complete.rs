//! Whether the table sets every field: of each type that the server's own OpenAPI names, some object must.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::Listed;
use crate::entry::Entries;

/// Fields that no entry sets, by the reason.
const UNSET: &str = include_str!("objects/unset.yaml");
/// The registry's own, or named by every story.
const HEAD: [&str; 3] = ["apiVersion", "kind", "metadata"];

struct Seen<'a> {
    definitions: &'a Map<String, Value>,
    /// By type.
    fields: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Seen<'a> {
    /// A value of what `schema` describes.
    fn value(&mut self, schema: &'a Value, value: &Value) {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/")) {
            return self.object(name, value);
        }
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.value(&schema["items"], item)),
            Value::Object(members) if schema["additionalProperties"].is_object() => {
                members.values().for_each(|member| self.value(&schema["additionalProperties"], member));
            }
            _ => {}
        }
    }

    fn object(&mut self, name: &'a str, value: &Value) {
        let Some(properties) = self.definitions.get(name).and_then(|definition| definition["properties"].as_object())
        else {
            return;
        };
        let Some(members) = value.as_object() else { return };
        self.fields.entry(name).or_default().extend(members.keys().cloned());
        for (field, schema) in properties {
            if let Some(member) = members.get(field) {
                self.value(schema, member);
            }
        }
    }
}

/// `document` is OpenAPI v2, as it is served.
pub fn check(document: &Value, resources: &[Listed], entries: &Entries) -> Result<()> {
    let definitions = document["definitions"].as_object().context("definitions")?;
    let mut seen = Seen { definitions, fields: BTreeMap::new() };
    let mut kinds = BTreeSet::new();
    for resource in resources {
        let Some(entry) = entries.get(&resource.id()).filter(|entry| entry.asked.is_none()) else { continue };
        let (group, version) = resource.version.split_once('/').unwrap_or(("", &resource.version));
        let is_it = |definition: &&Value| {
            let kinds = definition["x-kubernetes-group-version-kind"].as_array();
            kinds.into_iter().flatten().any(|kind| {
                kind["group"] == group && kind["version"] == version && kind["kind"] == resource.kind.as_str()
            })
        };
        let named = definitions.iter().find(|(_, definition)| is_it(definition)).map(|(name, _)| name.as_str());
        let name = named.with_context(|| format!("{} is in no definition", resource.id()))?;
        kinds.insert(name);
        let mut object = entry.maximal.clone();
        if !entry.status.is_null() {
            object["status"] = entry.status.clone();
        }
        seen.object(name, &object);
    }
    let excused: BTreeMap<String, BTreeSet<String>> = serde_norway::from_str(UNSET).context("unset.yaml")?;
    let mut excused: BTreeSet<String> = excused.into_values().flatten().collect();
    let mut unset = Vec::new();
    for (name, set) in seen.fields.iter().filter(|(name, _)| !name.ends_with(".ObjectMeta")) {
        let properties = definitions[*name]["properties"].as_object().into_iter().flatten().map(|(field, _)| field);
        for field in properties.filter(|field| !set.contains(*field)) {
            if kinds.contains(name) && HEAD.contains(&field.as_str()) {
                continue;
            }
            let place = format!("{}.{field}", name.trim_start_matches("io.k8s."));
            if !excused.remove(&place) {
                unset.push(place);
            }
        }
    }
    ensure!(unset.is_empty(), "no maximal object sets {}", unset.join(", "));
    let stale: Vec<String> = excused.into_iter().collect();
    ensure!(stale.is_empty(), "set, or not there at all, and yet excused: {}", stale.join(", "));
    Ok(())
}
