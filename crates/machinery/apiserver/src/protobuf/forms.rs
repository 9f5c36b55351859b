//! Answers in protobuf: objects, lists and watch events, all framed from one message per object version.

use std::sync::Arc;

use base_meta::schema::{SchemaRef, Shape};
use base_meta::{Gvk, Status};
use bytes::{BufMut, Bytes, BytesMut};
use machinery_registry::ResourceDef;
use machinery_registry::resource::List;
use machinery_storage::Object;
use serde_json::Value;

use super::wire::{framed_len, put_bytes, put_length, put_varint};
use super::{TAIL, Unencodable, enclose, encode, head};

/// How much of each object is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// As a `PartialObjectMetadata`.
    Metadata,
}

impl Part {
    fn gvk(self, def: &ResourceDef) -> Gvk {
        match self {
            Self::Whole => def.gvk.clone(),
            Self::Metadata => Gvk::of("meta.k8s.io", "v1", "PartialObjectMetadata"),
        }
    }

    /// Whether objects of this kind can be sent so.
    pub(crate) fn encodable(self, def: &ResourceDef) -> bool {
        match self {
            Self::Whole => def.has_protobuf(),
            Self::Metadata => metadata_schema(def).is_some(),
        }
    }
}

/// The schema of the kind's metadata, where that has a protobuf encoding.
fn metadata_schema(def: &ResourceDef) -> Option<SchemaRef> {
    let SchemaRef { table, .. } = def.schema;
    match def.schema.root_type().field("metadata")?.shape {
        Shape::Object(root) => Some(SchemaRef { table, root }).filter(|schema| super::describes(*schema)),
        _ => None,
    }
}

fn failed(error: Unencodable) -> Status {
    Status::internal(format_args!("unable to encode the object as protobuf: {error}"))
}

/// The message of one object, made once per version.
fn message(def: &ResourceDef, part: Part, object: &Object) -> Result<Arc<Bytes>, Status> {
    let key = match part {
        Part::Whole => "protobuf",
        Part::Metadata => "protobuf metadata",
    };
    object.try_form(key, || {
        let value = object.to_value().map_err(Status::internal)?;
        value_message(def, part, &value).map(Bytes::from)
    })
}

fn value_message(def: &ResourceDef, part: Part, value: &Value) -> Result<Vec<u8>, Status> {
    match (part, metadata_schema(def)) {
        (Part::Whole, _) => encode::object(def.schema, value).map_err(failed),
        (Part::Metadata, Some(schema)) => {
            let metadata = encode::object(schema, &value["metadata"]).map_err(failed)?;
            let mut out = Vec::with_capacity(metadata.len() + 4);
            put_bytes(&mut out, 1, &metadata);
            Ok(out)
        }
        (Part::Metadata, None) => Err(failed(Unencodable::Unsupported)),
    }
}

/// With its envelope.
pub(crate) fn object(def: &ResourceDef, part: Part, object: &Object) -> Result<Vec<u8>, Status> {
    Ok(enclose(&part.gvk(def), &message(def, part, object)?))
}

/// What is of `schema`, with its envelope: a subresource's answer, a Status.
pub(crate) fn value(gvk: &Gvk, schema: SchemaRef, value: &Value) -> Result<Vec<u8>, Status> {
    super::from_json(gvk, schema, value).map_err(failed)
}

/// Written once into a buffer of the right size, however many megabytes.
pub(crate) fn list(def: &ResourceDef, part: Part, list: &List) -> Result<Vec<u8>, Status> {
    let items: Vec<Arc<Bytes>> = list.items.iter().map(|item| message(def, part, item)).collect::<Result<_, _>>()?;
    let mut meta = Vec::new();
    put_bytes(&mut meta, 1, b"");
    put_bytes(&mut meta, 2, list.revision.to_string().as_bytes());
    put_bytes(&mut meta, 3, list.continue_token.as_bytes());
    if let Some(remaining) = list.remaining {
        put_varint(&mut meta, 4, remaining);
    }
    let length = framed_len(1, meta.len()) + items.iter().map(|item| framed_len(2, item.len())).sum::<usize>();

    let item_gvk = part.gvk(def);
    let gvk = Gvk { kind: format!("{}List", item_gvk.kind).into(), ..item_gvk };
    let mut out = head(&gvk, length);
    out.reserve_exact(length + TAIL.len());
    put_bytes(&mut out, 1, &meta);
    for item in items {
        put_bytes(&mut out, 2, &item);
    }
    out.extend_from_slice(&TAIL);
    Ok(out)
}

/// Appends a watch event: its length, and the event, which has no envelope though its object has.
pub(crate) fn write_event(
    out: &mut BytesMut,
    kind: &str,
    def: &ResourceDef,
    part: Part,
    object: &Object,
) -> Result<(), Status> {
    write_frame(out, kind, &part.gvk(def), &message(def, part, object)?);
    Ok(())
}

/// Of what has no stored bytes: a bookmark.
pub(crate) fn write_made(
    out: &mut BytesMut,
    kind: &str,
    def: &ResourceDef,
    part: Part,
    value: &Value,
) -> Result<(), Status> {
    write_frame(out, kind, &part.gvk(def), &value_message(def, part, value)?);
    Ok(())
}

pub(crate) fn write_error(out: &mut BytesMut, status: &Status, schema: SchemaRef) -> Result<(), Status> {
    let value = serde_json::to_value(status).map_err(Status::internal)?;
    let message = encode::object(schema, &value).map_err(failed)?;
    write_frame(out, "ERROR", &Gvk::of("", "v1", "Status"), &message);
    Ok(())
}

fn write_frame(out: &mut BytesMut, kind: &str, gvk: &Gvk, message: &[u8]) {
    let enclosing = head(gvk, message.len());
    let object = enclosing.len() + message.len() + TAIL.len();
    let mut event = Vec::with_capacity(kind.len() + 32);
    put_bytes(&mut event, 1, kind.as_bytes());
    put_length(&mut event, 2, framed_len(1, object));
    put_length(&mut event, 1, object);
    out.reserve(4 + event.len() + object);
    // An object is far smaller than four gigabytes.
    out.put_u32((event.len() + object) as u32);
    out.put_slice(&event);
    out.put_slice(&enclosing);
    out.put_slice(message);
    out.put_slice(&TAIL);
}
