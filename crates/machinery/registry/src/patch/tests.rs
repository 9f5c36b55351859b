#![allow(clippy::unwrap_used)]

mod difference;

use base_meta::schema::{Field, PatchStrategy, Rare, SchemaRef, Shape, Table, Type, TypeId};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::strategic::{Error, apply};

const KEYED: &Rare = &Rare { patch_merge_key: Some("name"), ..*Rare::NONE };

const fn field(name: &'static str, shape: Shape, merge: bool, rare: &'static Rare) -> Field {
    Field {
        name,
        rare,
        shape,
        proto: 0,
        proto_outer: [0, 0],
        pointer: false,
        omitempty: true,
        omitzero: false,
        required: false,
        list_type: None,
        map_type: None,
        patch_strategy: PatchStrategy { merge, replace: false, retain_keys: false },
    }
}

const REPLACED: Field = Field {
    patch_strategy: PatchStrategy { merge: false, replace: true, retain_keys: false },
    ..field("whole", Shape::Object(TypeId(1)), false, Rare::NONE)
};

static TABLE: Table = Table {
    types: &[
        Type {
            name: "test.Root",
            atomic_map: false,
            fields: &[
                field("text", Shape::String, false, Rare::NONE),
                field("items", Shape::List(0), true, KEYED),
                field("plain", Shape::List(0), false, Rare::NONE),
                field("words", Shape::List(1), true, Rare::NONE),
                field("inner", Shape::Object(TypeId(1)), false, Rare::NONE),
                field("labels", Shape::Map(1), false, Rare::NONE),
                REPLACED,
            ],
        },
        Type {
            name: "test.Item",
            atomic_map: false,
            fields: &[
                field("name", Shape::String, false, Rare::NONE),
                field("a", Shape::String, false, Rare::NONE),
                field("b", Shape::String, false, Rare::NONE),
                field("items", Shape::List(0), true, KEYED),
            ],
        },
    ],
    shapes: &[Shape::Object(TypeId(1)), Shape::String],
    prose: &[],
};

const SCHEMA: SchemaRef = SchemaRef { table: &TABLE, root: TypeId(0) };

fn patch(document: Value, patch: Value) -> Result<Value, Error> {
    apply(document, patch, Some(SCHEMA))
}

#[test]
fn a_json_patch_may_test_for_absence() {
    let apply = |patch: Value| {
        let patch = super::Parsed::new(&crate::Patch::Json(patch.to_string().into())).unwrap();
        patch.apply(json!({"metadata": {"name": "x"}, "list": [1]}), None)
    };
    let test = |path: &str, value: Value| json!({"op": "test", "path": path, "value": value});
    let add = json!({"op": "add", "path": "/metadata/finalizers", "value": ["f"]});
    let patched = apply(json!([test("/metadata/finalizers", Value::Null), add])).unwrap();
    assert_eq!(patched["metadata"], json!({"name": "x", "finalizers": ["f"]}));
    for (path, value) in [
        ("/metadata/name", Value::Null),
        ("/metadata/name", json!("y")),
        ("/metadata/labels", json!({})),
        ("/status/phase", Value::Null),
        ("/list/1", Value::Null),
    ] {
        let refused = apply(json!([test(path, value)])).unwrap_err();
        assert_eq!(refused.code, 422, "{path}");
        assert_eq!(refused.message, "the server rejected our request due to an error in our request");
    }
}

#[test]
fn long_lists_take_no_square_of_their_length() {
    const MANY: usize = 30_000;
    let items = |from: usize| (from..from + MANY).map(|n| json!({"name": n.to_string(), "a": "1"})).collect::<Value>();
    let words = |from: usize| (from..from + MANY).map(|n| json!(n.to_string())).collect::<Value>();
    let document = json!({"items": items(0), "words": words(0)});
    let change = json!({"items": items(MANY / 2), "words": words(MANY / 2), "$setElementOrder/words": words(MANY / 2)});
    let patched = patch(document.clone(), change).unwrap();
    assert_eq!(patched["items"].as_array().unwrap().len(), MANY / 2 * 3);
    assert_eq!(patched["words"].as_array().unwrap().len(), MANY / 2 * 3);
    let gone: Value = (0..MANY).map(|n| json!({"name": n.to_string(), "$patch": "delete"})).collect();
    let patched = patch(document, json!({"items": gone, "$deleteFromPrimitiveList/words": words(0)})).unwrap();
    assert_eq!(patched, json!({"items": [], "words": []}));
}

#[test]
fn maps_merge_and_null_deletes() {
    let document = json!({"text": "x", "labels": {"a": "1", "b": "2"}});
    let patched = patch(document, json!({"labels": {"a": null, "c": "3", "d": null}, "text": null})).unwrap();
    assert_eq!(patched, json!({"labels": {"b": "2", "c": "3"}}));
}

#[test]
fn keyed_lists_merge_and_others_are_replaced() {
    let list = json!([{"name": "x", "a": "1"}, {"name": "y", "a": "2"}]);
    let document = json!({"items": list, "plain": list});
    let change = json!([{"name": "y", "b": "3"}]);
    let patched = patch(document, json!({"items": change, "plain": change})).unwrap();
    assert_eq!(patched["items"], json!([{"name": "x", "a": "1"}, {"name": "y", "a": "2", "b": "3"}]));
    assert_eq!(patched["plain"], change);
}

#[test]
fn elements_are_deleted_and_lists_replaced_by_directive() {
    let document = json!({"items": [{"name": "x"}, {"name": "y"}]});
    let deleted = patch(document.clone(), json!({"items": [{"name": "x", "$patch": "delete"}]})).unwrap();
    assert_eq!(deleted, json!({"items": [{"name": "y"}]}));
    let replaced = patch(document, json!({"items": [{"$patch": "replace"}, {"name": "z"}]})).unwrap();
    assert_eq!(replaced, json!({"items": [{"name": "z"}]}));
}

#[test]
fn maps_are_replaced_and_emptied_by_directive() {
    let document = json!({"inner": {"a": "1", "b": "2"}, "whole": {"a": "1", "b": "2"}});
    let patched = |change: Value| patch(document.clone(), change).unwrap();
    assert_eq!(patched(json!({"inner": {"$patch": "replace", "a": "9"}}))["inner"], json!({"a": "9"}));
    assert_eq!(patched(json!({"inner": {"$patch": "delete"}}))["inner"], json!({}));
    assert_eq!(patched(json!({"inner": {"$retainKeys": ["b"], "b": "9"}}))["inner"], json!({"b": "9"}));
    assert_eq!(patched(json!({"whole": {"a": "9"}}))["whole"], json!({"a": "9"}));
}

#[test]
fn words_join_leave_and_keep_their_order() {
    let document = json!({"words": ["a", "b", "c"]});
    let patched = |change: Value| patch(document.clone(), change).unwrap()["words"].clone();
    assert_eq!(patched(json!({"words": ["b", "d"]})), json!(["a", "b", "d", "c"]));
    assert_eq!(patched(json!({"$deleteFromPrimitiveList/words": ["b", "z"]})), json!(["a", "c"]));
    assert_eq!(
        patched(json!({"$setElementOrder/words": ["d", "c", "a"], "words": ["d"]})),
        json!(["d", "b", "c", "a"])
    );
}

#[test]
fn the_order_a_client_sets_is_kept_around_what_it_does_not_know() {
    let document = json!({"items": [{"name": "a"}, {"name": "server"}, {"name": "b"}]});
    let change = json!({
        "$setElementOrder/items": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
        "items": [{"name": "new", "a": "1"}],
    });
    let patched = patch(document, change).unwrap();
    let names: Vec<_> = patched["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["server", "b", "new", "a"]);
}

#[test]
fn directives_never_reach_the_document() {
    let change = json!({
        "inner": {"$retainKeys": ["a"], "a": "1", "b": null},
        "items": [{"name": "x", "$patch": "delete"}, {"name": "y", "a": null}],
        "$setElementOrder/items": [{"name": "y"}],
        "$deleteFromPrimitiveList/words": ["a"],
    });
    let patched = patch(json!({}), change).unwrap();
    assert_eq!(patched, json!({"inner": {"a": "1"}, "items": [{"name": "y"}]}));
}

#[test]
fn malformed_patches_say_what_is_wrong() {
    let document = || json!({"items": [{"name": "x"}], "words": ["a"], "inner": {"a": "1"}, "plain": []});
    for (change, expected) in [
        (json!({"inner": {"$patch": "melt"}}), r#"unknown patch type: "melt" in map: {}"#),
        (json!({"items": [{"a": "1"}]}), r#"map: {"a":"1"} does not contain declared merge key: name"#),
        (
            json!({"items": [{"$patch": "delete"}]}),
            r#"map: {"$patch":"delete"} does not contain declared merge key: name"#,
        ),
        (json!({"items": ["x"]}), "the elements of list items are not all of one type"),
        (json!({"inner": {"$retainKeys": "a"}}), "invalid patch format of retainKeys"),
        (json!({"inner": {"$retainKeys": ["a"], "b": "1"}}), "invalid patch format of retainKeys"),
        (json!({"$deleteFromPrimitiveList": ["a"]}), "invalid patch format of primitive list"),
        (json!({"$deleteFromPrimitiveList/words": "a"}), "invalid patch format of primitive list"),
        (json!({"$setElementOrder/items": {}}), "invalid patch format of setElementOrder list"),
        (json!({"$setElementOrder/none": []}), r#"unable to find api field in struct Root for the json field "none""#),
    ] {
        let error = patch(document(), change).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.status().code, 400);
    }
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "d"])
}

/// Keys once each, as validation demands of merge lists.
fn items(nested: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(name(), (name(), nested), 0..4).prop_map(|map| {
        let item = |(name, (a, items)): (&str, (&str, Value))| json!({"name": name, "a": a, "items": items});
        Value::Array(map.into_iter().map(item).collect())
    })
}

fn document() -> impl Strategy<Value = Value> {
    let words = prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle();
    (items(items(Just(json!([])))), words, prop::collection::btree_map(name(), name(), 0..4))
        .prop_map(|(items, words, labels)| json!({"items": items, "words": words, "labels": labels}))
}

proptest! {
    #[test]
    fn a_patch_applied_twice_is_applied_once(document in document(), change in document()) {
        let once = patch(document, change.clone()).unwrap();
        prop_assert_eq!(patch(once.clone(), change).unwrap(), once);
    }

    #[test]
    fn an_object_patched_with_itself_stays(document in document()) {
        prop_assert_eq!(patch(document.clone(), document.clone()).unwrap(), document.clone());
        prop_assert_eq!(patch(document.clone(), json!({})).unwrap(), document);
    }

    #[test]
    fn no_patch_makes_it_panic(document in document(), change in any_json()) {
        let _ = patch(document, change);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), Just(json!("delete")), Just(json!("replace")), Just(json!(1)), Just(json!("a"))];
    let key = prop::sample::select(vec![
        "items",
        "words",
        "plain",
        "labels",
        "inner",
        "name",
        "a",
        "$patch",
        "$retainKeys",
        "$setElementOrder/items",
        "$setElementOrder/words",
        "$deleteFromPrimitiveList/words",
        "$setElementOrder",
        "$deleteFromPrimitiveList/",
    ]);
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}
