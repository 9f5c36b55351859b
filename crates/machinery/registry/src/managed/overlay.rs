//! A configuration laid over an object by whoever may change it without owning it: as an apply merges, and nobody is
//! recorded. What would be replaced whole is refused: whoever means to set one field of it would lose the others.

use base_meta::schema::Shape;
use serde_json::Value;

use super::check::check;
use super::merge::merge;
use super::place::{Kind, Place};

/// Upstream's words for what is wrong with the configuration.
pub fn overlay(place: Place<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    check(place, config).map_err(|problem| format!("failed to convert patch object to typed object: {problem}"))?;
    let mut atomics = Vec::new();
    find_atomics(place, config, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"));
    }
    Ok(merge(place, live, config))
}

fn find_atomics(place: Place<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    let leaf = matches!(place.kind(value), Kind::Leaf);
    match value {
        // What a text or number is written as is no structure.
        Value::Object(fields) if !matches!(place.shape(), Some(Shape::Quantity | Shape::IntOrString)) => {
            if leaf {
                found.push(path.clone());
            }
            for (name, value) in fields {
                if let Some((place, true)) = place.entry(name) {
                    path.push('.');
                    path.push_str(name);
                    find_atomics(place, value, path, found);
                    path.truncate(length);
                }
            }
        }
        Value::Array(items) => {
            if leaf {
                found.push(path.clone());
            }
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                find_atomics(place.item(), item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
