//! Request bodies as Go clients of the last years send them by default: protobuf, read into JSON by the schema table.
//!
//! Only this direction, for `kubectl create namespace` and its like, which know no other body. Answers stay JSON,
//! which these clients take.

mod decode;
pub(crate) mod wire;

use base_meta::Status;
use base_meta::schema::SchemaRef;
use serde_json::{Map, Value};

use wire::{Malformed, Wire};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every encoded object starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Reads a whole object. Of a kind that `schema` is not, only the type comes back: the decoder says what is wrong.
pub(crate) fn to_json(body: &[u8], schema: SchemaRef) -> Result<Value, Status> {
    envelope(body, schema)
        .map_err(|error| Status::bad_request(format!("unable to decode the body of the request as protobuf: {error}")))
}

/// `runtime.Unknown`: the type, and the object's own encoding.
fn envelope(body: &[u8], schema: SchemaRef) -> Result<Value, Malformed> {
    let message = body.strip_prefix(MAGIC).ok_or(Malformed::Prefix)?;
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    for field in wire::fields(message) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in wire::fields(type_meta) {
                    match field? {
                        (1, value) => api_version = value.text()?,
                        (2, value) => kind = value.text()?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            // A content encoding or type of its own: nobody sends one.
            (3 | 4, Wire::Bytes(text)) if !text.is_empty() => return Err(Malformed::Encoding),
            _ => {}
        }
    }
    let mut object = Map::new();
    if kind.is_empty() || kind == schema.root_type().go_name() {
        object = decode::object(schema, raw)?;
    }
    for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
        if !value.is_empty() {
            object.insert(name.into(), value.into());
        }
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests;
