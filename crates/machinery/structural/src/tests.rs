#![allow(clippy::unwrap_used)]
use base_meta::field::Path;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{GroupVersionKind, Schema};

fn cron_tab() -> Value {
    json!({
        "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "required": ["cronSpec"],
                "properties": {
                    "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "default": "5 0 * * *"},
                    "image": {"type": "string", "maxLength": 20},
                    "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
                    "mode": {"type": "string", "enum": ["a", "b"]},
                    "port": {"x-kubernetes-int-or-string": true},
                    "note": {"type": "string", "nullable": true},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"known": {"type": "object", "properties": {"x": {"type": "string"}}}}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
                    "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                        "items": {"type": "object", "required": ["port"], "properties": {
                            "port": {"type": "integer", "exclusiveMaximum": true, "maximum": 65536},
                            "name": {"type": "string", "default": "http"}}}},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "maxItems": 3, "items": {"type": "string"}},
                    "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                    "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true},
                    "address": {"type": "string", "format": "ipv4"}
                }
            }
        }
    })
}

fn schema() -> Schema {
    Schema::parse(&cron_tab()).unwrap()
}

fn errors(spec: Value) -> Vec<String> {
    schema().validate(&Path::default(), &json!({ "spec": spec })).iter().map(ToString::to_string).collect()
}

#[test]
fn errors_read_as_upstreams() {
    let good = "5 0 * * *";
    for (spec, expected) in [
        (
            json!({"cronSpec": good, "replicas": "x"}),
            vec![r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#],
        ),
        (
            json!({"cronSpec": "* * * *", "replicas": 15}),
            vec![
                r#"spec.cronSpec: Invalid value: "* * * *": spec.cronSpec in body should match '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$'"#,
                "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10",
            ],
        ),
        (json!({}), vec!["spec.cronSpec: Required value"]),
        (
            json!({"cronSpec": good, "mode": "c"}),
            vec![r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"cronSpec": good, "port": true}),
            vec![r#"spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#],
        ),
        (json!({"cronSpec": good, "port": "http", "note": null, "replicas": 2.0}), vec![]),
        (
            json!({"cronSpec": good, "image": null}),
            vec![r#"spec.image: Invalid value: "null": spec.image in body must be of type string: "null""#],
        ),
        (
            json!({"cronSpec": good, "image": "a-very-long-image-name"}),
            vec!["spec.image: Too long: may not be more than 20 bytes"],
        ),
        (
            json!({"cronSpec": good, "labels": {}}),
            vec!["spec.labels: Invalid value: {}: spec.labels in body should have at least 1 properties"],
        ),
        (
            json!({"cronSpec": good, "ports": [{"port": 1}, {"port": 2}, {"port": 1}]}),
            vec![r#"spec.ports[2]: Duplicate value: {"port":1}"#],
        ),
        (
            json!({"cronSpec": good, "ports": [{"port": 65536}]}),
            vec!["spec.ports[0].port: Invalid value: 65536: spec.ports[0].port in body should be less than 65536"],
        ),
        (json!({"cronSpec": good, "tags": ["a", "b", "a"]}), vec![r#"spec.tags[2]: Duplicate value: "a""#]),
        (
            json!({"cronSpec": good, "tags": ["a", "b", "c", "d"]}),
            vec!["spec.tags: Too many: 4: must have at most 3 items"],
        ),
        (
            json!({"cronSpec": good, "either": {"a": "1", "b": "2"}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"cronSpec": good, "either": {}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.either" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.either.a: Required value",
            ],
        ),
        (
            json!({"cronSpec": good, "template": {"kind": "X"}}),
            vec!["spec.template.apiVersion: Required value: must not be empty"],
        ),
        (
            json!({"cronSpec": good, "address": "1.2.3"}),
            vec![r#"spec.address: Invalid value: "1.2.3": spec.address in body must be of type ipv4: "1.2.3""#],
        ),
    ] {
        assert_eq!(errors(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn an_update_does_not_judge_what_was_there() {
    let old = json!({"spec": {"cronSpec": "bad", "ports": [{"port": 70000}, {"port": 2}]}});
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(3);
    new["spec"]["ports"] = json!([{"port": 2}, {"port": 70000}]);
    assert!(schema().validate_update(&Path::default(), &new, &old).is_empty());
    new["spec"]["cronSpec"] = json!("worse");
    assert_eq!(schema().validate_update(&Path::default(), &new, &old).len(), 1);
}

#[test]
fn pruning_keeps_what_the_schema_keeps() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "CronTab", "metadata": {"name": "x"}, "extra": 1,
        "spec": {"cronSpec": "x", "unknown": true, "labels": {"a": "b"},
            "free": {"any": {"thing": 1}, "known": {"x": "1", "y": "2"}},
            "ports": [{"port": 1, "more": 2}],
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}}}
    });
    let removed = schema().prune(&mut object);
    assert_eq!(removed, ["extra", "spec.free.known.y", "spec.ports[0].more", "spec.unknown"]);
    assert_eq!(object["spec"]["free"], json!({"any": {"thing": 1}, "known": {"x": "1"}}));
    assert_eq!(object["spec"]["template"]["spec"], json!({}));
}

#[test]
fn defaults_fill_absent_fields_and_nulls() {
    let mut object = json!({"spec": {"replicas": null, "note": null, "image": null, "ports": [{"port": 1}]}});
    schema().apply_defaults(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"replicas": 1, "cronSpec": "5 0 * * *", "note": null, "ports": [{"port": 1, "name": "http"}]}})
    );
}

#[test]
fn odd_documents_are_refused() {
    for document in [json!(1), json!({"type": "nothing"}), json!({"pattern": "("}), json!({"properties": {"a": []}})] {
        assert!(Schema::parse(&document).is_err(), "{document}");
    }
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({ "items": deep });
    }
    assert!(Schema::parse(&deep).is_err());
}

#[test]
fn a_long_list_is_compared_with_what_it_was() {
    let schema = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}}});
    let schema = Schema::parse(&schema).unwrap();
    let mut new: Vec<Value> = (0..20_000).map(|n| json!({"k": n.to_string(), "v": 9})).collect();
    let old = Value::from(new.clone());
    // Moved as they are, and one made wrong anew; a square of the length would take minutes.
    new.reverse();
    new[7]["v"] = json!(8);
    let errors = schema.validate_update(&Path::default(), &new.into(), &old);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, "[7].v");
}

#[test]
fn version_two_says_less() {
    let kind = GroupVersionKind { group: "stable.example.com", version: "v1", kind: "CronTab" };
    let two = kind.publish_v2(&cron_tab(), "#/definitions/meta");
    let spec = &two["properties"]["spec"]["properties"];
    assert_eq!(spec["note"], json!({}));
    assert_eq!(spec["either"].get("oneOf"), None);
    assert_eq!(spec["port"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(two["properties"]["metadata"]["$ref"], "#/definitions/meta");
    let three = kind.publish_v3(&cron_tab(), "#/components/schemas/meta");
    assert_eq!(three["properties"]["spec"]["properties"]["either"]["oneOf"].as_array().unwrap().len(), 2);
    assert_eq!(three["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
}

/// Any value, with field names that the schema knows among them.
fn values() -> impl Strategy<Value = Value> {
    let name = prop_oneof!["spec|labels|free|known|ports|port|name|template|kind|note|replicas|x|y|cronSpec|tags"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_are_idempotent(value in values()) {
        let schema = schema();
        let mut once = value;
        schema.prune(&mut once);
        let mut twice = once.clone();
        prop_assert!(schema.prune(&mut twice).is_empty());
        prop_assert_eq!(&once, &twice);
        schema.apply_defaults(&mut once);
        let mut twice = once.clone();
        schema.apply_defaults(&mut twice);
        prop_assert_eq!(&once, &twice);
        // And validation of anything ends with an answer.
        schema.validate(&Path::default(), &once);
    }
}
