//! JSON objects as messages, by the schema table, byte for byte as Go's generated code writes them.
//!
//! Fields go out by number. What Go holds by value is always written, however empty; what it holds by pointer only
//! where it is set. JSON's null is absence.

use base_meta::schema::{Field, SchemaRef, Shape, Table, TypeId};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::either::Either;
use super::outer;
use super::wire::{put_bytes, put_fixed64, put_message, put_varint};

/// A value that does not fit its schema. What was stored does; this is a fault of the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    #[error("a value is of another type than its schema's")]
    Mismatch,
    #[error("a text is not base64")]
    Base64,
    #[error("a time does not parse")]
    Time,
    #[error("a field has a type that is not sent as protobuf")]
    Unsupported,
}

static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

/// The message of one object, without its envelope.
pub(super) fn object(schema: SchemaRef, value: &Value) -> Result<Vec<u8>, Unencodable> {
    let mut out = Vec::with_capacity(512);
    Encoder { table: schema.table }.object(schema.root, Some(value), &mut out)?;
    Ok(out)
}

struct Encoder {
    table: &'static Table,
}

impl Encoder {
    fn object(&self, id: TypeId, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let object = match value {
            None | Some(Value::Null) => &NOTHING,
            Some(Value::Object(object)) => object,
            Some(_) => return Err(Unencodable::Mismatch),
        };
        let mut fields: Vec<&Field> = self.table.get(id).fields.iter().filter(|field| field.proto != 0).collect();
        fields.sort_by_key(|field| path(field));
        self.fields(id, &fields, 0, object, out)
    }

    /// `fields` share the first `depth` of the messages they are in.
    fn fields(
        &self,
        owner: TypeId,
        mut fields: &[&Field],
        depth: usize,
        object: &Map<String, Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unencodable> {
        while let [first, rest @ ..] = fields {
            let Some(&number) = outer(first).get(depth) else {
                self.field(owner, first, object.get(first.name).filter(|value| !value.is_null()), out)?;
                fields = rest;
                continue;
            };
            // A structure that JSON inlines.
            let length = fields.iter().take_while(|field| outer(field).get(depth) == Some(&number)).count();
            let (inside, after) = fields.split_at(length);
            put_message(out, number.into(), |out| self.fields(owner, inside, depth + 1, object, out))?;
            fields = after;
        }
        Ok(())
    }

    fn field(&self, owner: TypeId, field: &Field, value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        let number = field.proto.into();
        match (field.shape, value) {
            (Shape::List(_), Some(value)) if field.go_type == Some("v1.Verbs") => {
                self.value(owner, number, field.shape, None, Some(value), out)
            }
            (Shape::List(element), Some(value)) => {
                let shape = self.table.nested(element);
                let items = value.as_array().ok_or(Unencodable::Mismatch)?;
                items.iter().try_for_each(|item| self.value(owner, number, shape, None, Some(item), out))
            }
            (Shape::Map(element), Some(value)) => {
                let shape = self.table.nested(element);
                let entries = value.as_object().ok_or(Unencodable::Mismatch)?;
                // Kept sorted as Go sorts them.
                entries.iter().try_for_each(|(key, value)| {
                    put_message(out, number, |out| {
                        put_bytes(out, 1, key.as_bytes());
                        self.value(owner, 2, shape, field.go_type, Some(value), out)
                    })
                })
            }
            (Shape::List(_) | Shape::Map(_) | Shape::Bytes, None) => Ok(()),
            (_, None) if field.pointer => Ok(()),
            (shape, value) => self.value(owner, number, shape, field.go_type, value, out),
        }
    }

    /// Always writes the field; `None` is Go's zero value.
    fn value(
        &self,
        owner: TypeId,
        number: u32,
        shape: Shape,
        go: Option<&str>,
        value: Option<&Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unencodable> {
        let value = value.filter(|value| !value.is_null());
        match shape {
            Shape::String => put_bytes(out, number, text(value)?.as_bytes()),
            Shape::Bytes => {
                let bytes = BASE64_STANDARD.decode(text(value)?).map_err(|_| Unencodable::Base64)?;
                put_bytes(out, number, &bytes);
            }
            Shape::Bool => put_varint(out, number, boolean(value)?.into()),
            Shape::Int(_) => put_varint(out, number, integer(value)?),
            Shape::Float => {
                let float = value.map_or(Some(0.0), Value::as_f64).ok_or(Unencodable::Mismatch)?;
                put_fixed64(out, number, float.to_bits());
            }
            Shape::Quantity => put_message(out, number, |out| {
                match value {
                    None => put_bytes(out, 1, b"0"),
                    Some(Value::Number(plain)) => put_bytes(out, 1, plain.to_string().as_bytes()),
                    Some(_) => put_bytes(out, 1, text(value)?.as_bytes()),
                }
                Ok(())
            })?,
            Shape::IntOrString => put_message(out, number, |out| {
                let (is_text, plain, words) = match value {
                    Some(Value::String(words)) => (1, 0, words.as_str()),
                    value => (0, integer(value)?, ""),
                };
                put_varint(out, 1, is_text);
                put_varint(out, 2, plain);
                put_bytes(out, 3, words.as_bytes());
                Ok(())
            })?,
            Shape::Time | Shape::MicroTime => put_message(out, number, |out| time(value, out))?,
            Shape::Any => match Either::of(go) {
                Some(either) => put_message(out, number, |out| self.either(either, owner, value, out))?,
                None => put_message(out, number, |out| {
                    if let Some(value) = value {
                        put_bytes(out, 1, value.to_string().as_bytes());
                    }
                    Ok(())
                })?,
            },
            Shape::Object(id) => put_message(out, number, |out| self.object(id, value, out))?,
            // A named list (`ExtraValue`) is a message of its items.
            Shape::List(element) => {
                let shape = self.table.nested(element);
                let items = value.map_or(Some(&[][..]), |value| value.as_array().map(Vec::as_slice));
                let items = items.ok_or(Unencodable::Mismatch)?;
                put_message(out, number, |out| {
                    items.iter().try_for_each(|item| self.value(owner, 1, shape, None, Some(item), out))
                })?;
            }
            Shape::Map(_) | Shape::Duration => return Err(Unencodable::Unsupported),
        }
        Ok(())
    }

    fn either(
        &self,
        either: Either,
        schema: TypeId,
        value: Option<&Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unencodable> {
        let number = either.schema();
        if either == Either::Bool {
            put_varint(out, 1, u64::from(!matches!(value, None | Some(Value::Bool(false)))));
        }
        match (value, either) {
            (Some(Value::Object(_)), _) => put_message(out, number, |out| self.object(schema, value, out)),
            (Some(Value::Array(items)), Either::List) => {
                items.iter().try_for_each(|item| put_message(out, 2, |out| self.object(schema, Some(item), out)))
            }
            (Some(Value::Array(items)), Either::Texts) => items.iter().try_for_each(|item| {
                put_bytes(out, 2, text(Some(item))?.as_bytes());
                Ok(())
            }),
            (None, _) | (Some(Value::Bool(_)), Either::Bool) => Ok(()),
            _ => Err(Unencodable::Mismatch),
        }
    }
}

/// Where the field is, from the outermost message inwards.
fn path(field: &Field) -> [u16; 3] {
    let mut path = [0; 3];
    let outer = outer(field);
    for (place, number) in path.iter_mut().zip(outer) {
        *place = (*number).into();
    }
    path[outer.len()] = field.proto;
    path
}

fn text(value: Option<&Value>) -> Result<&str, Unencodable> {
    value.map_or(Some(""), Value::as_str).ok_or(Unencodable::Mismatch)
}

fn boolean(value: Option<&Value>) -> Result<bool, Unencodable> {
    value.map_or(Some(false), Value::as_bool).ok_or(Unencodable::Mismatch)
}

/// As a varint has it: negative numbers are those of 64 bits.
fn integer(value: Option<&Value>) -> Result<u64, Unencodable> {
    let Some(value) = value else { return Ok(0) };
    value.as_i64().map(i64::cast_unsigned).or_else(|| value.as_u64()).ok_or(Unencodable::Mismatch)
}

/// Nothing for Go's zero time.
fn time(value: Option<&Value>, out: &mut Vec<u8>) -> Result<(), Unencodable> {
    if value.is_none() {
        return Ok(());
    }
    let time: Timestamp = text(value)?.parse().map_err(|_| Unencodable::Time)?;
    let nanoseconds = time.as_nanosecond().rem_euclid(1_000_000_000);
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000);
    let seconds = i64::try_from(seconds).map_err(|_| Unencodable::Time)?;
    put_varint(out, 1, seconds.cast_unsigned());
    put_varint(out, 2, nanoseconds as u64);
    Ok(())
}
