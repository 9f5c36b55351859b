//! Whether an applied configuration follows the schema, in upstream's words for what does not.

use std::collections::BTreeSet;

use base_meta::schema::Shape;
use serde_json::Value;

use super::place::{Kind, Place};

/// One problem as itself, several as a list.
pub(super) fn check(place: Place<'_>, config: &Value) -> Result<(), String> {
    let mut problems = Vec::new();
    visit(place, config, &mut String::new(), &mut problems);
    match problems.len() {
        0 => Ok(()),
        1 => Err(problems.remove(0)),
        _ => Err(format!("errors:\n  {}", problems.join("\n  "))),
    }
}

fn visit(place: Place<'_>, value: &Value, path: &mut String, problems: &mut Vec<String>) {
    let mut report = |path: &str, problem: String| {
        problems.push(if path.is_empty() { problem } else { format!("{path}: {problem}") });
    };
    if value.is_null() {
        return;
    }
    if let Some(shape) = place.shape()
        && let Some(problem) = mismatch(shape, value)
    {
        return report(path, problem);
    }
    let kind = place.kind(value);
    match (kind, value) {
        (Kind::Set | Kind::Keyed(_), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (at, item) in items.iter().enumerate() {
                match place.item_element(kind, item) {
                    Err(problem) => return problems.push(format!("{path}: element {at}: {problem}")),
                    Ok(element) => {
                        if seen.contains(&element) {
                            problems.push(format!("{path}: duplicate entries for key {element}"));
                        }
                        below(place.item(), item, &element.to_string(), path, problems);
                        seen.insert(element);
                    }
                }
            }
        }
        (_, Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                below(place.item(), item, &format!("[{at}]"), path, problems);
            }
        }
        (_, Value::Object(entries)) => {
            for (name, value) in entries {
                match place.entry(name) {
                    Some((place, _)) => below(place, value, &format!(".{name}"), path, problems),
                    None => return problems.push(format!("{path}.{name}: field not declared in schema")),
                }
            }
        }
        _ => {}
    }
}

fn below(place: Place<'_>, value: &Value, step: &str, path: &mut String, problems: &mut Vec<String>) {
    let length = path.len();
    path.push_str(step);
    visit(place, value, path, problems);
    path.truncate(length);
}

fn mismatch(shape: Shape, value: &Value) -> Option<String> {
    let shown = || format!("&value.valueUnstructured{{Value:{value}}}");
    let (fits, wanted) = match shape {
        Shape::Any => return None,
        Shape::Object(_) | Shape::Map(_) => (value.is_object(), "map"),
        Shape::List(_) => (value.is_array(), "list"),
        Shape::Bool => (value.is_boolean(), "boolean"),
        Shape::Int(_) | Shape::Float => {
            let go = match value {
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            return (!value.is_number()).then(|| format!("expected numeric (int or float), got {go}"));
        }
        Shape::Quantity | Shape::IntOrString => (!value.is_object() && !value.is_array(), "any scalar"),
        _ => (value.is_string(), "string"),
    };
    (!fits).then(|| format!("expected {wanted}, got {}", shown()))
}
