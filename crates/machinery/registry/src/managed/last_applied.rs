//! Objects of client-side apply: `kubectl apply --server-side` takes over what the annotation says kubectl set.

use serde_json::{Map, Value};

use super::compare::compare;
use super::owned::set_of;
use super::set::Set;
use super::versions::Versions;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Only the manager of this name takes part; any other opts out.
pub(super) const MANAGER: &str = "kubectl";

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// What was applied last and still stands.
pub(super) fn allowed(kind: &dyn Versions, live: &Value, version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(annotation(live)?).ok()?;
    if last.get("apiVersion")?.as_str()? != version {
        return None;
    }
    let place = kind.place(version)?;
    super::check::check(place, &last).ok()?;
    let difference = compare(place, &last, live);
    let set = set_of(place, &last);
    Some(set.difference(&difference.modified).difference(&difference.added).difference(&difference.removed))
}

/// Keeps the annotation up with what was applied, where the object has one.
pub(super) fn refresh(live: &Value, object: &mut Option<Value>, config: &Value) {
    if annotation(object.as_ref().unwrap_or(live)).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    // Upstream's encoder ends a document with a line end.
    let text = format!("{config}\n");
    if annotation(object.as_ref().unwrap_or(live)) == Some(&text) {
        return;
    }
    let object = object.get_or_insert_with(|| live.clone());
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(ANNOTATION.to_owned(), Value::String(text));
    } else if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = Map::from_iter([(ANNOTATION.to_owned(), Value::String(text))]);
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
}
