//! Values as JSON: what a mutation puts into an object.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::functions;
use crate::value::{Key, Val};

/// A value that JSON has no form for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    #[error("unsupported conversion from {0} to JSON")]
    Type(String),
    #[error("map key {0} is not a string")]
    Key(String),
}

pub fn to_json(value: &Val) -> Result<Value, NotJson> {
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(flag) => Value::Bool(*flag),
        Val::Int(number) => Value::from(*number),
        Val::Uint(number) => Value::from(*number),
        Val::Double(number) => Value::from(*number),
        Val::String(text) => Value::String(text.to_string()),
        Val::Bytes(bytes) => Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Val::Timestamp(_) | Val::Duration(_) => Value::String(functions::text(value)),
        Val::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Val::Map(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries.iter() {
                let Key::String(key) = key else {
                    return Err(NotJson::Key(functions::text(&crate::eval::key_value(key))));
                };
                fields.insert(key.to_string(), to_json(value)?);
            }
            Value::Object(fields)
        }
        Val::Made(made) => {
            let fields = made.fields.iter().map(|(name, value)| Ok((name.clone(), to_json(value)?)));
            Value::Object(fields.collect::<Result<_, _>>()?)
        }
        other => return Err(NotJson::Type(other.type_name().to_owned())),
    })
}
