//! Lists that are sets or maps: nothing twice.

use std::collections::BTreeMap;

use base_meta::field::{Error, Path};
use serde_json::{Map, Value};

use crate::schema::{ListType, Schema};

/// The place of each item that repeats an earlier one; an item's key as a value.
pub(crate) fn duplicates(schema: &Schema, items: &[Value], path: &Path, errors: &mut Vec<Error>) {
    let keys: Vec<Value> = match &schema.list {
        ListType::Atomic => return,
        ListType::Set => items.to_vec(),
        ListType::Map(keys) => items.iter().map(|item| key_of(schema, keys, item)).collect(),
    };
    // Sorted by text first, so that a long list costs no square of its length.
    let mut order: Vec<(String, usize)> =
        keys.iter().enumerate().map(|(index, key)| (normal(key).to_string(), index)).collect();
    order.sort();
    let mut repeated: Vec<usize> =
        order.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1).collect();
    repeated.sort_unstable();
    for index in repeated {
        errors.push(Error::duplicate(&path.index(index), &keys[index]));
    }
}

/// The key fields of an item of a map list.
pub(crate) fn key_of(schema: &Schema, keys: &[String], item: &Value) -> Value {
    let mut key = Map::new();
    for name in keys {
        let default =
            || schema.items.as_ref().and_then(|items| items.properties.get(name)).and_then(|key| key.default.clone());
        if let Some(value) = item.get(name).cloned().or_else(default) {
            key.insert(name.clone(), value);
        }
    }
    Value::Object(key)
}

/// The items that a list had before, found by what its schema says tells them apart; of no other list is anything found.
pub struct Before<'a> {
    schema: &'a Schema,
    /// By the text of the key: a long list is not gone through for each item of another.
    items: BTreeMap<String, &'a Value>,
}

impl<'a> Before<'a> {
    pub fn new(schema: &'a Schema, old: Option<&'a Value>) -> Self {
        let mut items = BTreeMap::new();
        if let (ListType::Map(keys), Some(Value::Array(old))) = (&schema.list, old) {
            for item in old {
                items.entry(text_of(schema, keys, item)).or_insert(item);
            }
        }
        Self { schema, items }
    }

    pub fn of(&self, item: &Value) -> Option<&'a Value> {
        let ListType::Map(keys) = &self.schema.list else { return None };
        if self.items.is_empty() { None } else { self.items.get(&text_of(self.schema, keys, item)).copied() }
    }
}

fn text_of(schema: &Schema, keys: &[String], item: &Value) -> String {
    normal(&key_of(schema, keys, item)).to_string()
}

/// One spelling for numbers that are the same.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation)]
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Value::from(float as i64),
            _ => value.clone(),
        },
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), normal(value))).collect())
        }
        other => other.clone(),
    }
}
