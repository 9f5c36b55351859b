//! Between structural schemas and the language: the declared type of a value, and the value itself.

use std::collections::BTreeMap;

use base64::Engine as _;
use machinery_structural::{Additional, Schema, Type};
use serde_json::Value;

use crate::escape::escape;
use crate::functions;
use crate::types::{Kind, Ty, UNBOUNDED};
use crate::value::{Key, Val};

/// The type an expression sees. `whole` for an object with apiVersion, kind and metadata.
pub fn declare(schema: &Schema, whole: bool) -> Ty {
    let checks = &schema.checks;
    if schema.int_or_string {
        return Ty::from(Kind::Dyn).at_most(checks.max_length);
    }
    match schema.kind {
        Type::Any => Kind::Dyn.into(),
        Type::Boolean => Kind::Bool.into(),
        Type::Integer => Kind::Int.into(),
        Type::Number => Kind::Double.into(),
        Type::String => match checks.format.as_str() {
            "date" | "date-time" => Kind::Timestamp.into(),
            "duration" => Kind::Duration.into(),
            "byte" => Ty::from(Kind::Bytes).at_most(checks.max_length),
            _ => Ty::from(Kind::String).at_most(checks.max_length.or_else(|| longest(&checks.enumeration))),
        },
        Type::Array => {
            let item = schema.items.as_ref().map_or(Kind::Dyn.into(), |items| declare(items, items.embedded));
            // As many as a request has room for.
            let room = UNBOUNDED / smallest(schema.items.as_deref());
            Ty::list(item).at_most(Some(room)).at_most(checks.max_items)
        }
        Type::Object => object(schema, whole),
    }
}

fn object(schema: &Schema, whole: bool) -> Ty {
    let whole = whole || schema.embedded;
    if let Some(Additional::Schema(values)) = &schema.additional {
        let room = UNBOUNDED / (smallest(Some(values)) + 6);
        return Ty::map(Kind::String.into(), declare(values, values.embedded))
            .at_most(Some(room))
            .at_most(schema.checks.max_properties);
    }
    if schema.properties.is_empty() && !whole {
        // Nothing in it can be named.
        return Ty::object("object", []);
    }
    let mut fields: BTreeMap<String, Ty> = BTreeMap::new();
    if whole {
        let name = |text: &str| (text.to_owned(), Ty::from(Kind::String).at_most(Some(253)));
        fields.extend([name("apiVersion"), name("kind")]);
        fields.insert("metadata".into(), Ty::object("metadata", [name("name"), name("generateName")]));
    }
    for (name, property) in &schema.properties {
        if whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        if let Some(name) = escape(name) {
            fields.insert(name, declare(property, property.embedded));
        }
    }
    Ty::object("object", fields)
}

fn longest(values: &[Value]) -> Option<u64> {
    values.iter().map(|value| value.as_str().map(|text| text.len() as u64)).max().flatten()
}

/// The fewest bytes of JSON that one value and its comma take.
fn smallest(schema: Option<&Schema>) -> u64 {
    let Some(schema) = schema else { return 2 };
    1 + match schema.kind {
        Type::Boolean => 4,
        Type::Integer | Type::Number | Type::Any => 1,
        Type::String => match schema.checks.format.as_str() {
            "date" => 12,
            "date-time" => 22,
            _ => 2 + schema.checks.min_length.unwrap_or_default(),
        },
        Type::Array => 2,
        Type::Object => {
            let required = schema.checks.required.iter();
            2 + required.map(|name| name.len() as u64 + 4 + smallest(schema.properties.get(name))).sum::<u64>()
        }
    }
}

/// The value of a JSON document, typed as `declare` says.
pub fn to_value(schema: &Schema, whole: bool, document: &Value) -> Val {
    match (schema.kind, document) {
        _ if schema.int_or_string || schema.kind == Type::Any => untyped(document),
        (Type::Number, Value::Number(number)) => number.as_f64().map_or(Val::Null, Val::Double),
        (Type::Integer, Value::Number(number)) => integer(number),
        (Type::String, Value::String(text)) => string(&schema.checks.format, text),
        (Type::Array, Value::Array(items)) => Val::list(
            items
                .iter()
                .map(|item| {
                    schema.items.as_ref().map_or_else(|| untyped(item), |inner| to_value(inner, inner.embedded, item))
                })
                .collect(),
        ),
        (Type::Object, Value::Object(fields)) => {
            let whole = whole || schema.embedded;
            if let Some(Additional::Schema(inner)) = &schema.additional {
                return Val::fields(fields.iter().map(|(name, value)| (name, to_value(inner, inner.embedded, value))));
            }
            Val::fields(fields.iter().filter_map(|(name, value)| {
                if whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    return Some((name.clone(), untyped(value)));
                }
                let inner = schema.properties.get(name)?;
                // Null where null is no value is as if nothing stood there.
                if value.is_null() && !inner.nullable && inner.kind != Type::Any {
                    return None;
                }
                Some((escape(name)?, to_value(inner, inner.embedded, value)))
            }))
        }
        (_, other) => untyped(other),
    }
}

/// Without a schema: what JSON says.
pub fn untyped(document: &Value) -> Val {
    match document {
        Value::Null => Val::Null,
        Value::Bool(flag) => Val::Bool(*flag),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or(Val::Null, Val::Double),
        Value::Number(number) => integer(number),
        Value::String(text) => Val::from(text.as_str()),
        Value::Array(items) => Val::list(items.iter().map(untyped).collect()),
        Value::Object(fields) => {
            Val::map(fields.iter().map(|(name, value)| (Key::String(name.as_str().into()), untyped(value))))
        }
    }
}

fn integer(number: &serde_json::Number) -> Val {
    #[allow(clippy::cast_possible_truncation)]
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), ..) => Val::Int(number),
        (_, Some(number), _) => Val::Uint(number),
        (.., Some(number)) => Val::Int(number as i64),
        _ => Val::Null,
    }
}

/// What does not fit its format is not the language's to refuse: that is the schema's validation.
fn string(format: &str, text: &str) -> Val {
    let plain = || Val::from(text);
    match format {
        "date" => format!("{text}T00:00:00Z").parse().map_or_else(|_| plain(), Val::Timestamp),
        "date-time" => text.parse().map_or_else(|_| plain(), Val::Timestamp),
        "duration" => functions::duration(text).map_or_else(plain, Val::Duration),
        "byte" => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_or_else(|_| plain(), |bytes| Val::Bytes(bytes.into())),
        _ => plain(),
    }
}
