//! JSON values compared and changed.

use serde_json::{Map, Value};

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Where `actual` has something else than `wanted`; it may have more fields.
pub fn lacks(actual: &Value, wanted: &Value) -> Option<String> {
    fn at(path: &str, actual: &Value, wanted: &Value) -> Option<String> {
        match (actual, wanted) {
            (Value::Object(actual), Value::Object(wanted)) => wanted.iter().find_map(|(name, wanted)| {
                at(&format!("{path}/{name}"), actual.get(name).unwrap_or(&Value::Null), wanted)
            }),
            (Value::Array(actual), Value::Array(wanted)) if actual.len() == wanted.len() => {
                let pairs = actual.iter().zip(wanted).enumerate();
                pairs.into_iter().find_map(|(index, (actual, wanted))| at(&format!("{path}/{index}"), actual, wanted))
            }
            _ => (actual != wanted).then(|| format!("{path} is {actual}, not {wanted}")),
        }
    }
    at("", actual, wanted)
}

/// With `$n`, `$i` and `$space` replaced in every text.
pub fn filled(value: &Value, word: &str, number: usize, space: &str) -> Value {
    match value {
        Value::String(text) => {
            let filled = text.replace("$space", space).replace("$n", word).replace("$i", &number.to_string());
            // What was a number but for its last digit.
            match filled.parse::<u64>() {
                Ok(number) if text.ends_with("$i") => number.into(),
                _ => filled.into(),
            }
        }
        Value::Array(items) => items.iter().map(|item| filled(item, word, number, space)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), filled(value, word, number, space))).collect()
        }
        plain => plain.clone(),
    }
}

/// Everything but metadata and status: what a generation counts changes of.
pub fn content(object: &Value) -> Value {
    let mut object = object.clone();
    if let Value::Object(fields) = &mut object {
        fields.remove("metadata");
        fields.remove("status");
    }
    object
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
