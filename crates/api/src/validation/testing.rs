//! For tables of bad input: parse, default, validate, print.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Errors;

pub(super) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object parses")
}

pub(super) fn printed(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// `base` with the value at each JSON pointer replaced (`Value::Null` removes it).
pub(super) fn with(base: &Value, changes: &[(&str, Value)]) -> Value {
    let mut changed = base.clone();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
        let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} is in the base"));
        match parent {
            Value::Object(fields) if value.is_null() => drop(fields.remove(last)),
            Value::Object(fields) => drop(fields.insert(last.to_owned(), value.clone())),
            Value::Array(items) => match last.parse::<usize>() {
                Ok(index) if index < items.len() => items[index] = value.clone(),
                _ => items.push(value.clone()),
            },
            other => panic!("{pointer} points into {other}"),
        }
    }
    changed
}
