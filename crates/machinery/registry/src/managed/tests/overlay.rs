//! Configurations of those who change an object without owning it.

use serde_json::{Value, json};

use super::super::overlay;
use super::*;

fn laid(spec: Value) -> Result<Value, String> {
    let live =
        thing(json!({"a": "b"}), json!({"replicas": 1, "args": ["x"], "containers": [{"name": "c", "image": "i"}]}));
    overlay(Place::from(*SCHEMA), &live, &thing(Value::Null, spec)).map(|mut object| object["spec"].take())
}

#[test]
fn what_is_said_is_merged_and_the_rest_stays() {
    let spec =
        json!({"replicas": 2, "containers": [{"name": "c", "limits": {"cpu": "1"}}, {"name": "d"}], "tags": ["t"]});
    assert_eq!(
        laid(spec),
        Ok(json!({"replicas": 2, "args": ["x"], "tags": ["t"],
            "containers": [{"name": "c", "image": "i", "limits": {"cpu": "1"}}, {"name": "d"}]}))
    );
    assert_eq!(
        laid(json!({"strategy": {"surge": "25%"}})).map(|spec| spec["strategy"].clone()),
        Ok(json!({"surge": "25%"}))
    );
}

#[test]
fn what_would_be_replaced_whole_is_refused() {
    for (spec, expected) in [
        (
            json!({"args": ["y"], "selector": {"a": "b"}}),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.args, .spec.selector",
        ),
        (json!({"raw": [1]}), "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.raw"),
        (
            json!({"nope": 1}),
            "failed to convert patch object to typed object: .spec.nope: field not declared in schema",
        ),
        (
            json!({"containers": [{"image": "i"}]}),
            "failed to convert patch object to typed object: .spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
    ] {
        assert_eq!(laid(spec), Err(expected.to_owned()));
    }
}
