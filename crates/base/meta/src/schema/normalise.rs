//! An object's JSON as Go's `json.Marshal` prints it after decoding: what is left out, what is added, what is null.

use serde_json::{Map, Value};

use super::{Field, SchemaRef, Shape, Table, TypeId, scalar};

/// Brings `value`, which fits the schema, to the form that upstream would print and store.
///
/// Empty `omitempty` fields go, unless Go holds them by pointer; structures that Go holds by value are printed even
/// when empty (`status: {}`), as are the zero values of fields without `omitempty`; a list or map that must be printed
/// and has no element is null, as it is after upstream's storage. Unknown fields are left alone.
pub fn normalise(schema: SchemaRef, value: &mut Value) {
    structure(schema.table, schema.root, value);
}

/// Below this, every whole number that a float can hold is an `i64`.
const WHOLE: f64 = 9e18;

fn structure(table: &Table, id: TypeId, value: &mut Value) {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(object) = value else { return };
    for field in table.get(id).fields {
        match object.get_mut(field.name) {
            Some(value) => {
                if !value.is_null() {
                    position(table, field.shape, value);
                }
                if left_out(field, value) {
                    object.remove(field.name);
                } else if value.is_null() || is_empty_collection(field, value) {
                    *value = absent(table, field);
                }
            }
            None if printed_when_absent(field) => {
                object.insert(field.name.to_owned(), absent(table, field));
            }
            None => {}
        }
    }
}

fn position(table: &Table, shape: Shape, value: &mut Value) {
    match (shape, &mut *value) {
        (Shape::Object(id), _) => structure(table, id, value),
        (Shape::List(element), Value::Array(items)) => {
            let shape = table.nested(element);
            items.iter_mut().for_each(|item| position(table, shape, item));
        }
        (Shape::Map(element), Value::Object(entries)) => {
            let shape = table.nested(element);
            entries.values_mut().for_each(|entry| position(table, shape, entry));
        }
        (Shape::Float, Value::Number(number)) => {
            if let Some(whole) = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < WHOLE) {
                *value = Value::from(whole as i64);
            }
        }
        (Shape::Quantity, Value::Number(number)) => {
            *value = Value::String(number.to_string());
            position(table, shape, value);
        }
        (Shape::Quantity | Shape::Time | Shape::MicroTime | Shape::Bytes, Value::String(text)) => {
            if let Ok(text) = scalar::canonical(shape, text.clone()) {
                *value = text.map_or(Value::Null, Value::String);
            }
        }
        _ => {}
    }
}

/// Structures in Go's sense: `omitempty` never finds them empty.
fn is_structure(shape: Shape) -> bool {
    matches!(
        shape,
        Shape::Object(_)
            | Shape::Quantity
            | Shape::IntOrString
            | Shape::Time
            | Shape::MicroTime
            | Shape::Duration
            | Shape::Any
    )
}

fn left_out(field: &Field, value: &Value) -> bool {
    if field.pointer {
        return field.omitempty && value.is_null();
    }
    if is_structure(field.shape) {
        return field.omitzero && is_zero(value);
    }
    field.omitempty && is_zero(value)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

fn is_empty_collection(field: &Field, value: &Value) -> bool {
    !field.pointer && matches!(field.shape, Shape::List(_) | Shape::Map(_)) && is_zero(value)
}

fn printed_when_absent(field: &Field) -> bool {
    if field.pointer || !is_structure(field.shape) { !field.omitempty } else { !field.omitzero }
}

/// What Go prints for a field that holds its zero value.
fn absent(table: &Table, field: &Field) -> Value {
    if field.pointer {
        return Value::Null;
    }
    match field.shape {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int(_) | Shape::Float | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::String("0".into()),
        Shape::Duration => Value::String("0s".into()),
        Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
        Shape::Object(id) => {
            let mut value = Value::Object(Map::new());
            structure(table, id, &mut value);
            value
        }
    }
}
