//! Where two JSON values part.

use serde_json::Value;

/// The first place where two values differ.
pub(super) fn difference(path: &str, ours: &Value, theirs: &Value) -> String {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let (ours, theirs) = (a.get(key), b.get(key));
                if ours != theirs {
                    return match (ours, theirs) {
                        (Some(ours), Some(theirs)) => difference(&format!("{path}.{key}"), ours, theirs),
                        (ours, theirs) => format!("{path}.{key}: {ours:?} for {theirs:?}"),
                    };
                }
            }
            format!("{path}: equal")
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find(|(_, (ours, theirs))| ours != theirs)
            .map_or_else(String::new, |(index, (ours, theirs))| difference(&format!("{path}[{index}]"), ours, theirs)),
        _ => format!("{path}: {ours} for {theirs}"),
    }
}
