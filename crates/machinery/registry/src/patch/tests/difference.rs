//! Patches as `kubectl apply` computes them from two objects, from the documented algorithm: applied to the first they give
//! the second.

use std::collections::BTreeSet;

use serde_json::{Map, json};

use super::*;

/// The list fields of the tests' kind that merge, wherever they stand: with a key, and by value.
const KEYED_LISTS: [&str; 1] = ["items"];
const WORD_LISTS: [&str; 1] = ["words"];

fn map_patch(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, new) in new {
        match (old.get(name), new) {
            (Some(old), new) if old == new => {}
            // Replaced as a whole.
            (_, new) if name == "whole" => drop(patch.insert(name.clone(), new.clone())),
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(name.clone(), map_patch(old, new).into());
            }
            (Some(Value::Array(old)), Value::Array(new)) if KEYED_LISTS.contains(&name.as_str()) => {
                patch.insert(format!("$setElementOrder/{name}"), new.iter().map(key).collect());
                patch.insert(name.clone(), items_patch(old, new).into());
            }
            (Some(Value::Array(old)), Value::Array(new)) if WORD_LISTS.contains(&name.as_str()) => {
                let only =
                    |one: &[Value], other: &[Value]| one.iter().filter(|word| !other.contains(word)).cloned().collect();
                let (gone, come): (Value, Value) = (only(old, new), only(new, old));
                patch.insert(format!("$setElementOrder/{name}"), json!(new));
                if gone != json!([]) {
                    patch.insert(format!("$deleteFromPrimitiveList/{name}"), gone);
                }
                if come != json!([]) {
                    patch.insert(name.clone(), come);
                }
            }
            (_, new) => drop(patch.insert(name.clone(), new.clone())),
        }
    }
    patch
}

fn key(item: &Value) -> Value {
    json!({"name": item["name"]})
}

fn items_patch(old: &[Value], new: &[Value]) -> Vec<Value> {
    let find = |list: &[Value], item: &Value| list.iter().find(|other| other["name"] == item["name"]).cloned();
    let mut patch = Vec::new();
    for item in new {
        let (Some(before), Value::Object(after)) = (find(old, item), item) else {
            patch.push(item.clone());
            continue;
        };
        let mut change = map_patch(before.as_object().unwrap(), after);
        if !change.is_empty() {
            change.insert("name".into(), item["name"].clone());
            patch.push(change.into());
        }
    }
    for gone in old.iter().filter(|item| find(new, item).is_none()) {
        patch.push(json!({"$patch": "delete", "name": gone["name"]}));
    }
    patch
}

/// The same with a union's discriminator: only the new keys stay.
fn retaining(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = map_patch(old, new);
    patch.retain(|_, value| !value.is_null());
    patch.insert("$retainKeys".into(), new.keys().cloned().collect());
    patch
}

fn words() -> impl Strategy<Value = Value> {
    prop::collection::vec("[a-e]", 1..5).prop_map(|words| {
        let mut seen = BTreeSet::new();
        words.into_iter().filter(|word| seen.insert(word.clone())).collect()
    })
}

fn item(depth: u32) -> BoxedStrategy<Value> {
    let inner = if depth == 0 { Just(None).boxed() } else { prop::option::of(items(depth - 1)).boxed() };
    ("[a-d]", prop::option::of("[12]"), prop::option::of("[12]"), inner)
        .prop_map(|(name, a, b, items)| {
            fields([
                ("name", Some(json!(name))),
                ("a", a.map(Value::from)),
                ("b", b.map(Value::from)),
                ("items", items),
            ])
        })
        .boxed()
}

fn items(depth: u32) -> BoxedStrategy<Value> {
    prop::collection::vec(item(depth), 1..5)
        .prop_map(|items| {
            let mut seen = BTreeSet::new();
            items.into_iter().filter(|item| seen.insert(item["name"].to_string())).collect()
        })
        .boxed()
}

fn fields<const N: usize>(all: [(&str, Option<Value>); N]) -> Value {
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn object() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-c]", "[12]", 1..3).prop_map(|labels| json!(labels));
    (
        prop::option::of("[xy]"),
        prop::option::of(items(1)),
        prop::option::of(prop::collection::vec(item(0), 1..3)),
        prop::option::of(words()),
        prop::option::of(item(0)),
        prop::option::of(labels),
        prop::option::of(item(0)),
    )
        .prop_map(|(text, items, plain, words, inner, labels, whole)| {
            fields([
                ("text", text.map(Value::from)),
                ("items", items),
                ("plain", plain.map(Value::from)),
                ("words", words),
                ("inner", inner),
                ("labels", labels),
                ("whole", whole),
            ])
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_patch_from_one_to_another_leads_there(old in object(), new in object()) {
        let (from, to) = (old.as_object().unwrap(), new.as_object().unwrap());
        for change in [map_patch(from, to), retaining(from, to)] {
            let change = Value::Object(change);
            let once = patch(old.clone(), change.clone());
            prop_assert_eq!(once.as_ref(), Ok(&new), "by {}", change);
            // And a second time changes nothing more.
            prop_assert_eq!(patch(once.unwrap(), change), Ok(new.clone()));
        }
        prop_assert_eq!(patch(old.clone(), json!({})), Ok(old.clone()));
        let mut replaced = to.clone();
        replaced.insert("$patch".into(), json!("replace"));
        prop_assert_eq!(patch(old, replaced.into()), Ok(new));
    }

    #[test]
    fn any_patch_is_taken_or_refused(old in object(), name in "[$a-z/]{0,24}", directive in prop::sample::select(vec![
        "$patch", "$retainKeys", "$setElementOrder/items", "$setElementOrder/words", "$deleteFromPrimitiveList/words", "items", "words",
        "inner", "$setElementOrder", "$setElementOrder/nothing", "$deleteFromPrimitiveList/inner",
    ]), value in object(), other in prop::sample::select(vec![
        json!(null), json!("delete"), json!("merge"), json!([]), json!([null]), json!([[1]]), json!([1, "a", {"name": null}]), json!({"$patch": 1}),
        json!([{"$patch": "merge", "name": "a"}]), json!([{"$patch": "delete"}]), json!({"name": {}}), json!(5),
    ])) {
        let mut change = value.as_object().unwrap().clone();
        change.insert(name, other.clone());
        let _ = patch(old.clone(), change.clone().into());
        change.insert(directive.into(), other);
        let _ = patch(old, change.into());
    }
}
