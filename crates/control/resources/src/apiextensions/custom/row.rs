//! One object's cells.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns::Columns;
use crate::columns::since_instant;

pub(super) fn row(columns: &Columns, object: &Value) -> Vec<Value> {
    let mut cells = vec![object["metadata"]["name"].clone()];
    for (column, path) in columns.headers.iter().skip(1).zip(&columns.paths) {
        let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
        cells.push(match found.as_slice() {
            [] => Value::Null,
            [first, ..] => cell(column.kind, first, &found),
        });
    }
    cells
}

fn cell(kind: &str, first: &Value, all: &[&Value]) -> Value {
    match (kind, first) {
        ("integer", Value::Number(number)) => number.as_i64().map_or(Value::Null, Value::from),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => first.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => json!(since_instant(time)),
            Err(_) => json!("<invalid>"),
        },
        ("date", _) => json!("<unknown>"),
        ("string", _) => json!(all.iter().map(|value| text(value)).collect::<Vec<_>>().join(" ")),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
