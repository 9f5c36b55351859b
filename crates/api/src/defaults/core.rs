//! The small core kinds.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};

use super::text;

/// Every namespace carries its own name as a label, so that selectors can name it.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub fn namespace(namespace: &mut Namespace) {
    if let Some(name) = namespace.metadata.name.clone().filter(|name| !name.is_empty()) {
        namespace.metadata.labels.get_or_insert_default().insert(NAMESPACE_NAME_LABEL.to_owned(), name);
    }
    if let Some(status) = &mut namespace.status {
        text(&mut status.phase, "Active");
    }
}

/// `stringData` is write-only: each entry replaces its twin in `data`.
pub fn secret(secret: &mut Secret) {
    text(&mut secret.type_, "Opaque");
    for (key, value) in secret.string_data.take().into_iter().flatten() {
        secret.data.get_or_insert_default().insert(key, ByteString(value.into_bytes()));
    }
}

pub fn node(node: &mut Node) {
    if let Some(status) = &mut node.status
        && status.allocatable.is_none()
    {
        status.allocatable.clone_from(&status.capacity);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let mut object: Secret = serde_json::from_value(
            json!({"metadata": {"name": "s"}, "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "z"}}),
        )
        .expect("a secret");
        secret(&mut object);
        let json = serde_json::to_value(&object).expect("JSON");
        assert_eq!(json["data"], json!({"a": "eA==", "b": "eg=="}));
        assert_eq!((&json["stringData"], &json["type"]), (&json!(null), &json!("Opaque")));
    }

    #[test]
    fn a_namespace_is_labelled_with_its_name() {
        let mut object: Namespace = serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("a namespace");
        namespace(&mut object);
        assert_eq!(object.metadata.labels.expect("labels")[NAMESPACE_NAME_LABEL], "a");
    }
}
