//! What webhooks answer.

use base_meta::GroupVersion;
use serde_json::{Value, json};

/// To a review of the uid `u`.
pub fn admission(data: &[u8]) {
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"containers": [{"name": "a", "image": "i", "args": ["x", "y"]}]}});
    for made in control_policy::admission::webhook_answer(data, "u", &object) {
        match made {
            // It can be stored and read again.
            Ok(Some(patched)) => {
                let again: Value = serde_json::from_str(&patched.to_string()).expect("the patched object is JSON");
                assert_eq!(again, patched);
            }
            Ok(None) => {}
            Err(status) => assert!((400..600).contains(&status.code), "a refusal of code {}", status.code),
        }
    }
}

/// To a review of the uid `uid`. Whatever is answered, the objects keep their identity.
pub fn conversion(data: &[u8]) {
    let to = GroupVersion::parse("example.com/v2").expect("a version");
    let metadata = json!({"name": "a", "namespace": "b", "uid": "1", "labels": {"x": "y"}});
    let asked = ["p", "q"]
        .map(|spec| json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": metadata, "spec": {"s": spec}}));
    let Some(converted) = control_resources::conversion_answer(data, &asked, &to) else { return };
    assert_eq!(converted.len(), asked.len());
    for object in converted {
        assert_eq!((&object["apiVersion"], &object["kind"]), (&json!("example.com/v2"), &json!("X")));
        for member in ["name", "namespace", "uid"] {
            assert_eq!(object["metadata"][member], metadata[member]);
        }
    }
}
