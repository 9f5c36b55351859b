//! Messages as JSON objects, by the schema table. What Go's JSON would leave out is left out.

use base_meta::schema::{Field, SchemaRef, Shape, Table, TypeId};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::either::Either;
use super::outer;
use super::wire::{self, Malformed, Wire};

/// Deeper than any type but a hostile JSONSchemaProps.
const DEPTH: u8 = 64;

pub(super) fn object(schema: SchemaRef, message: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let mut out = Map::new();
    Decoder { table: schema.table }.object(schema.root, message, &[], &mut out, DEPTH)?;
    Ok(out)
}

struct Decoder {
    table: &'static Table,
}

impl Decoder {
    /// `inside`: the numbers of the inlined messages that `message` is found in.
    fn object(
        &self,
        id: TypeId,
        message: &[u8],
        inside: &[u8],
        out: &mut Map<String, Value>,
        depth: u8,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
        let fields = self.table.get(id).fields;
        for found in wire::fields(message) {
            let (number, wire) = found?;
            let own = fields.iter().find(|field| u32::from(field.proto) == number && outer(field) == inside);
            if let Some(field) = own {
                self.field(id, field, wire, out, depth)?;
                continue;
            }
            let Ok(short) = u8::try_from(number) else { continue };
            let inner = [inside, &[short]].concat();
            if fields.iter().any(|field| outer(field).starts_with(&inner)) {
                self.object(id, wire.bytes()?, &inner, out, depth)?;
            }
            // Anything else is from a newer client, and dropped as Go drops it.
        }
        Ok(())
    }

    fn field(
        &self,
        owner: TypeId,
        field: &Field,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
        depth: u8,
    ) -> Result<(), Malformed> {
        let either = Either::of(field.go_type);
        match field.shape {
            Shape::List(_) if field.go_type == Some("v1.Verbs") => {
                out.insert(field.name.into(), self.value(field.shape, wire, depth)?);
                Ok(())
            }
            Shape::List(element) => {
                let Value::Array(items) = out.entry(field.name).or_insert_with(|| json!([])) else { return Ok(()) };
                self.elements(self.table.nested(element), wire, items, depth)
            }
            Shape::Map(value) => {
                let Value::Object(entries) = out.entry(field.name).or_insert_with(|| json!({})) else { return Ok(()) };
                let (key, value) = self.entry(owner, either, self.table.nested(value), wire.bytes()?, depth)?;
                entries.insert(key, value);
                Ok(())
            }
            shape => {
                let value = match either {
                    Some(either) => self.either(either, owner, wire, depth)?,
                    None => self.value(shape, wire, depth)?,
                };
                // Go writes every field that is no pointer; JSON leaves out those that are empty.
                let absent = value.is_null() || (!field.pointer && (field.omitempty || field.omitzero) && zero(&value));
                if !absent {
                    out.insert(field.name.into(), value);
                }
                Ok(())
            }
        }
    }

    /// One element, or several numbers packed into one field.
    fn elements(&self, shape: Shape, wire: Wire<'_>, items: &mut Vec<Value>, depth: u8) -> Result<(), Malformed> {
        if let (Shape::Int(_) | Shape::Bool, Wire::Bytes(mut packed)) = (shape, wire) {
            while !packed.is_empty() {
                items.push(self.value(shape, Wire::Varint(wire::varint(&mut packed)?), depth)?);
            }
            return Ok(());
        }
        items.push(self.value(shape, wire, depth)?);
        Ok(())
    }

    fn entry(
        &self,
        owner: TypeId,
        either: Option<Either>,
        shape: Shape,
        message: &[u8],
        depth: u8,
    ) -> Result<(String, Value), Malformed> {
        let mut key = String::new();
        let mut value = None;
        for field in wire::fields(message) {
            match field? {
                (1, wire) => wire.text()?.clone_into(&mut key),
                (2, wire) => {
                    value = Some(match either {
                        Some(either) => self.either(either, owner, wire, depth)?,
                        None => self.value(shape, wire, depth)?,
                    });
                }
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| empty(shape))))
    }

    fn either(&self, either: Either, schema: TypeId, wire: Wire<'_>, depth: u8) -> Result<Value, Malformed> {
        let object = |wire: Wire<'_>| {
            let mut out = Map::new();
            self.object(schema, wire.bytes()?, &[], &mut out, depth)?;
            Ok(Value::Object(out))
        };
        let (mut one, mut many, mut allowed) = (None, Vec::new(), false);
        for field in wire::fields(wire.bytes()?) {
            match (field?, either) {
                ((number, wire), _) if number == either.schema() => one = Some(object(wire)?),
                ((1, wire), Either::Bool) => allowed = wire.integer()? != 0,
                ((2, wire), Either::List) => many.push(object(wire)?),
                ((2, wire), Either::Texts) => many.push(wire.text()?.into()),
                _ => {}
            }
        }
        Ok(match (one, either) {
            (Some(one), _) => one,
            (None, Either::Bool) => allowed.into(),
            (None, _) => many.into(),
        })
    }

    fn value(&self, shape: Shape, wire: Wire<'_>, depth: u8) -> Result<Value, Malformed> {
        Ok(match shape {
            Shape::String => wire.text()?.into(),
            Shape::Bytes => BASE64_STANDARD.encode(wire.bytes()?).into(),
            Shape::Bool => (wire.integer()? != 0).into(),
            Shape::Int(_) => wire.integer()?.into(),
            Shape::Float => match wire {
                Wire::Fixed64(bits) => f64::from_bits(bits).into(),
                Wire::Fixed32(bits) => f32::from_bits(bits).into(),
                _ => return Err(Malformed::Mismatch),
            },
            Shape::Quantity => self.part(wire, 1)?.map_or(Ok("0"), Wire::text)?.into(),
            Shape::IntOrString => match self.part(wire, 1)?.map_or(Ok(0), Wire::integer)? {
                0 => self.part(wire, 2)?.map_or(Ok(0), Wire::integer)?.into(),
                _ => self.part(wire, 3)?.map_or(Ok(""), Wire::text)?.into(),
            },
            Shape::Time => self.time(wire, 0)?,
            Shape::MicroTime => self.time(wire, 6)?,
            Shape::Any => match self.part(wire, 1)? {
                Some(raw) => serde_json::from_slice(raw.bytes()?).map_err(|_| Malformed::Json)?,
                None => Value::Null,
            },
            Shape::Object(id) => {
                let mut out = Map::new();
                self.object(id, wire.bytes()?, &[], &mut out, depth)?;
                out.into()
            }
            // A named list (`ExtraValue`) is a message of its items.
            Shape::List(element) => {
                let mut items = Vec::new();
                for field in wire::fields(wire.bytes()?) {
                    if let (1, wire) = field? {
                        self.elements(self.table.nested(element), wire, &mut items, depth)?;
                    }
                }
                items.into()
            }
            Shape::Map(_) | Shape::Duration => return Err(Malformed::Unsupported),
        })
    }

    /// One field of a small message; the last counts.
    fn part<'a>(&self, wire: Wire<'a>, number: u32) -> Result<Option<Wire<'a>>, Malformed> {
        let mut part = None;
        for field in wire::fields(wire.bytes()?) {
            let (found, wire) = field?;
            if found == number {
                part = Some(wire);
            }
        }
        Ok(part)
    }

    /// An empty message is Go's zero time, which JSON has as null.
    fn time(&self, wire: Wire<'_>, digits: u8) -> Result<Value, Malformed> {
        if wire.bytes()?.is_empty() {
            return Ok(Value::Null);
        }
        let seconds = self.part(wire, 1)?.map_or(Ok(0), Wire::integer)?;
        let nanoseconds = self.part(wire, 2)?.map_or(Ok(0), Wire::integer)?;
        let nanoseconds = i32::try_from(nanoseconds).map_err(|_| Malformed::Time)?;
        let time = Timestamp::new(seconds, if digits == 0 { 0 } else { nanoseconds }).map_err(|_| Malformed::Time)?;
        Ok(if digits == 0 { time.to_string() } else { format!("{time:.6}") }.into())
    }
}

fn zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // `omitempty` keeps an empty structure, as Go does; the normal form drops it where `omitzero` says so.
        Value::Object(_) => false,
    }
}

fn empty(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => "".into(),
        Shape::Bool => false.into(),
        Shape::Int(_) | Shape::Float | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::List(_) => json!([]),
        Shape::Object(_) | Shape::Map(_) => json!({}),
        Shape::Time | Shape::MicroTime | Shape::Duration | Shape::Any => Value::Null,
    }
}
