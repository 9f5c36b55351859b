//! Columns of `kubectl get` and the cells that several kinds print alike.
//!
//! Names, types, formats and priorities are upstream's (`pkg/printers/internalversion`); the descriptions are ours.

use std::collections::BTreeMap;

use base_meta::selector::LabelSelector as Selector;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use machinery_registry::Column;
use serde_json::{Value, json};

use crate::age::human;

pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The object's name, unique within its namespace.",
    priority: 0,
};

pub(crate) const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    description: "How long ago the object was created.",
    priority: 0,
};

pub(crate) const CONTAINERS: Column = wide("Containers", "Names of the containers in the pod template.");
pub(crate) const IMAGES: Column = wide("Images", "Images of the containers in the pod template.");

pub(crate) const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

pub(crate) const fn integer(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

pub(crate) const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "boolean", format: "", description, priority: 0 }
}

/// Shown with `-o wide`.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

pub(crate) fn name(metadata: &ObjectMeta) -> Value {
    json!(metadata.name.as_deref().unwrap_or(""))
}

pub(crate) fn age(metadata: &ObjectMeta) -> Value {
    json!(since(metadata.creation_timestamp.as_ref()))
}

/// How long ago, or `<unknown>`.
pub(crate) fn since(time: Option<&Time>) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| since_instant(time.0))
}

pub(crate) fn since_instant(then: Timestamp) -> String {
    human(Timestamp::now().duration_since(then))
}

pub(crate) fn or_none(text: Option<&str>) -> &str {
    text.filter(|text| !text.is_empty()).unwrap_or("<none>")
}

pub(crate) fn containers(template: Option<&PodTemplateSpec>) -> &[Container] {
    template.and_then(|template| template.spec.as_ref()).map_or(&[], |spec| &spec.containers)
}

pub(crate) fn container_names(containers: &[Container]) -> Value {
    json!(containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(","))
}

pub(crate) fn container_images(containers: &[Container]) -> Value {
    json!(containers.iter().map(|container| container.image.as_deref().unwrap_or("")).collect::<Vec<_>>().join(","))
}

/// A `metav1.LabelSelector` in the query syntax.
pub(crate) fn selector(selector: &LabelSelector) -> Value {
    match Selector::from_typed(Some(selector)) {
        Ok(parsed) if parsed.is_everything() => json!("<none>"),
        Ok(parsed) => json!(parsed.to_string()),
        Err(_) => json!("<error>"),
    }
}

/// Exact pairs.
pub(crate) fn pairs(pairs: Option<&BTreeMap<String, String>>) -> Value {
    let all: Vec<String> = pairs.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    json!(or_none(Some(&all.join(","))))
}

/// At most three, and how many more.
pub(crate) fn first_three(mut all: Vec<String>, none: &str) -> Value {
    let count = all.len();
    if count == 0 {
        return json!(none);
    }
    all.truncate(3);
    let shown = all.join(",");
    json!(if count > 3 { format!("{shown} + {} more...", count - 3) } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_after_three() {
        let list = |count: usize| (0..count).map(|n| n.to_string()).collect();
        assert_eq!(first_three(list(0), "<unset>"), "<unset>");
        assert_eq!(first_three(list(3), ""), "0,1,2");
        assert_eq!(first_three(list(5), ""), "0,1,2 + 2 more...");
    }

    #[test]
    fn selectors_print_as_queries() {
        let typed: LabelSelector =
            serde_json::from_value(json!({"matchLabels": {"run": "my-nginx"}})).expect("a selector");
        assert_eq!(selector(&typed), "run=my-nginx");
        assert_eq!(selector(&LabelSelector::default()), "<none>");
        assert_eq!(pairs(None), "<none>");
    }
}
