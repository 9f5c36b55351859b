//! Dropping the fields a schema does not know, and saying which.

use base_meta::field::Path;
use serde_json::{Map, Value};

use crate::schema::{Additional, Schema};

impl Schema {
    /// Removes what the schema does not name from a whole object (its apiVersion, kind and metadata stay) and
    /// returns the paths of what was removed, sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        prune_with(Some(self), true, object, &Path::default(), &mut removed);
        removed.sort();
        removed
    }

    /// The same for a value inside an object, a default for one.
    pub fn prune_value(&self, value: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        prune_with(Some(self), false, value, &Path::default(), &mut removed);
        removed.sort();
        removed
    }
}

/// Without a schema every field of every object goes, and scalars stay.
fn prune_with(schema: Option<&Schema>, whole: bool, value: &mut Value, path: &Path, removed: &mut Vec<String>) {
    match value {
        Value::Object(fields) => prune_fields(schema, whole, fields, path, removed),
        Value::Array(items) => {
            let schema = schema.filter(|schema| !schema.preserve_unknown || schema.items.is_some());
            for (index, item) in items.iter_mut().enumerate() {
                let inner = schema.and_then(|schema| schema.items.as_deref());
                if inner.is_none() && preserves(schema) {
                    continue;
                }
                prune_with(inner, false, item, &path.index(index), removed);
            }
        }
        _ => {}
    }
}

fn preserves(schema: Option<&Schema>) -> bool {
    schema.is_some_and(|schema| schema.preserve_unknown)
}

fn prune_fields(
    schema: Option<&Schema>,
    whole: bool,
    fields: &mut Map<String, Value>,
    path: &Path,
    removed: &mut Vec<String>,
) {
    let object = whole || schema.is_some_and(|schema| schema.embedded);
    fields.retain(|name, value| {
        if object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        if let Some(inner) = schema.and_then(|schema| schema.properties.get(name)) {
            prune_with(Some(inner), false, value, &path.child(name), removed);
            return true;
        }
        match schema.and_then(|schema| schema.additional.as_ref()) {
            Some(Additional::Schema(inner)) => {
                prune_with(Some(inner), false, value, &path.child(name), removed);
                true
            }
            Some(Additional::Any(true)) => true,
            _ if preserves(schema) => true,
            _ => {
                removed.push(path.child(name).to_string());
                false
            }
        }
    });
}
