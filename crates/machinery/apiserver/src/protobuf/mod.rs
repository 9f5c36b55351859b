//! `application/vnd.kubernetes.protobuf`: what Go's typed clients send and ask for by default.
//!
//! Both ways by the schema table: a message becomes the JSON of its object, and JSON the message, each exactly as
//! Go's own code would have it. A message is made once per object version; lists and watch events are framed from it.

mod decode;
mod either;
mod encode;
mod forms;
pub(crate) mod wire;

use base_meta::Gvk;
use base_meta::schema::{Field, SchemaRef};
use serde_json::{Map, Value};

pub use encode::Unencodable;
pub(crate) use forms::{Part, list, object, value, write_error, write_event, write_made};
pub use wire::Malformed;
use wire::{Wire, put_bytes, put_length};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every encoded object starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Whether bytes say that they are of this encoding.
pub(crate) fn is(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether objects of this type have a message: custom resources have none.
pub(crate) fn describes(schema: SchemaRef) -> bool {
    schema.root_type().fields.iter().any(|field| field.proto != 0)
}

/// Reads a whole object. Of a kind that `schema` is not, only the type comes back: the decoder says what is wrong.
pub fn to_json(body: &[u8], schema: SchemaRef) -> Result<Value, Malformed> {
    let Envelope { api_version, kind, raw } = Envelope::open(body)?;
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

/// Writes a whole object; `value` follows `schema`.
pub fn from_json(gvk: &Gvk, schema: SchemaRef, value: &Value) -> Result<Vec<u8>, Unencodable> {
    Ok(enclose(gvk, &encode::object(schema, value)?))
}

/// `runtime.Unknown`: the type, and the object's own encoding.
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn open(body: &'a [u8]) -> Result<Self, Malformed> {
        let message = body.strip_prefix(MAGIC).ok_or(Malformed::Prefix)?;
        let mut envelope = Self { api_version: "", kind: "", raw: &[] };
        for field in wire::fields(message) {
            match field? {
                (1, Wire::Bytes(type_meta)) => {
                    for field in wire::fields(type_meta) {
                        match field? {
                            (1, value) => envelope.api_version = value.text()?,
                            (2, value) => envelope.kind = value.text()?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
                // A content encoding or type of its own: nobody sends one.
                (3 | 4, Wire::Bytes(text)) if !text.is_empty() => return Err(Malformed::Encoding),
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// Everything of the envelope that goes before an object of this many bytes; [`TAIL`] goes after.
fn head(gvk: &Gvk, length: usize) -> Vec<u8> {
    let api_version = gvk.api_version();
    let mut type_meta = Vec::with_capacity(api_version.len() + gvk.kind.len() + 4);
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, gvk.kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + type_meta.len() + 16);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &type_meta);
    put_length(&mut out, 2, length);
    out
}

/// No encoding within, no type: two empty texts.
const TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];

fn enclose(gvk: &Gvk, message: &[u8]) -> Vec<u8> {
    let mut out = head(gvk, message.len());
    out.reserve_exact(message.len() + TAIL.len());
    out.extend_from_slice(message);
    out.extend_from_slice(&TAIL);
    out
}

/// The messages that hold the field where JSON inlines it, outermost first.
fn outer(field: &Field) -> &[u8] {
    let length = field.proto_outer.iter().position(|number| *number == 0).unwrap_or(field.proto_outer.len());
    &field.proto_outer[..length]
}

#[cfg(test)]
mod tests;
