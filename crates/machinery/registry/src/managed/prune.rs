//! Takes the fields and items of a set out of a value.

use serde_json::{Map, Value};

use super::element::Element;
use super::place::{Kind, Place};
use super::set::Set;

/// What loses all it held is null: it was there, and is not any more.
pub(super) fn without(place: Place<'_>, value: &Value, gone: &Set) -> Value {
    let kind = place.kind(value);
    match (kind, value) {
        (Kind::Map, Value::Object(entries)) => {
            let mut kept = Map::new();
            for (name, value) in entries {
                let below = match gone.find(&Element::field(name)) {
                    Some(entry) if entry.member => continue,
                    Some(entry) => without(place.entry_or_deduced(name).0, value, &entry.children),
                    None => value.clone(),
                };
                kept.insert(name.clone(), below);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Kind::Set | Kind::Keyed(_), Value::Array(items)) => {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let element = place.item_element(kind, item).ok();
                match element.as_ref().and_then(|element| gone.find(element)) {
                    Some(entry) if entry.member => {}
                    Some(entry) => kept.push(without(place.item(), item, &entry.children)),
                    None => kept.push(item.clone()),
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

/// Drops the nulls that pruning left in `pruned`, where `merged`, before it, held something.
pub(super) fn settle(pruned: &mut Value, merged: &Value) {
    match (pruned, merged) {
        (Value::Object(pruned), Value::Object(merged)) => {
            let held = |name: &str| merged.get(name).is_some_and(|value| !value.is_null());
            pruned.retain(|name, value| !value.is_null() || !held(name));
            for (name, value) in pruned.iter_mut() {
                if let Some(before) = merged.get(name) {
                    settle(value, before);
                }
            }
        }
        (Value::Array(pruned), Value::Array(merged)) if pruned.len() == merged.len() => {
            for (item, before) in pruned.iter_mut().zip(merged) {
                settle(item, before);
            }
            pruned.retain(|item| !item.is_null());
        }
        (Value::Array(pruned), Value::Array(_)) => pruned.retain(|item| !item.is_null()),
        _ => {}
    }
}
