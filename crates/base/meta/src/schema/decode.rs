//! One pass from bytes to a JSON value that fits a schema, as Go's strict decoder would have read it.

use serde::de::DeserializeSeed as _;
use serde_json::Value;

use super::cursor::Cursor;
use super::visit::Expected;
use super::{SchemaRef, Shape};

/// An object that fits its schema. Nulls are resolved as Go resolves them (a null field is absent, a null label is
/// empty), instants and quantities are in canonical form, unknown fields are gone, of repeated ones the last won.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.foo"` and `duplicate field "spec.replicas"`, each once, in the order they came; they fail
    /// the request, warn or are ignored as its `fieldValidation` says.
    pub strict_errors: Vec<String>,
}

/// Why bytes are no object of a schema. The texts are Go's where Go's decoder is the one that finds the fault.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or nested deeper than 127 levels.
    #[error("invalid JSON")]
    Syntax(#[source] serde_json::Error),
    /// A value of the wrong type, or one that its type refuses.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// What a client is told: the message with its cause.
    pub fn client_message(&self) -> String {
        match self {
            Self::Syntax(source) => format!("{self}: {source}"),
            Self::Type(message) => message.clone(),
        }
    }
}

/// Decodes the JSON of one object.
pub fn decode(schema: SchemaRef, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut cursor = Cursor::new(schema.table, false);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let outcome = Expected::root(&mut cursor, Shape::Object(schema.root))
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    finish(cursor, outcome)
}

/// The same for a value that is already parsed: from YAML, or the result of a patch.
pub fn conform(schema: SchemaRef, value: Value) -> Result<Decoded, DecodeError> {
    let mut cursor = Cursor::new(schema.table, true);
    let outcome = Expected::root(&mut cursor, Shape::Object(schema.root)).deserialize(value);
    finish(cursor, outcome)
}

/// The message of a request that `fieldValidation: Strict` refuses.
pub fn strict_message(errors: &[String]) -> String {
    format!("strict decoding error: {}", errors.join(", "))
}

fn finish(cursor: Cursor, outcome: Result<Value, serde_json::Error>) -> Result<Decoded, DecodeError> {
    // A value that its own type refused ended the pass; a plain mismatch was noted and the pass went on.
    match (cursor.refused, outcome, cursor.mismatch) {
        (Some(message), ..) | (None, Ok(_), Some(message)) => Err(DecodeError::Type(message)),
        (None, Err(error), _) => Err(DecodeError::Syntax(error)),
        (None, Ok(value), None) => {
            let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
            Ok(Decoded { value, strict_errors: cursor.strict_errors })
        }
    }
}
