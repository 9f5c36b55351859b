//! OpenAPI v2 as protobuf (gnostic's `openapi.v2.Document`): the only form in which kubectl takes version 2, which it
//! reads when an object's kind is unknown to version 3.
//!
//! The messages are tables from JSON keys to field numbers. A key that no table has is an error, so that a fact added
//! to the document cannot be lost on the way.

use serde_json::Value;

use crate::protobuf::wire;

/// `@` makes it no valid media type, yet that is what clients ask for.
pub(super) const ASKED: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];
pub(super) const ANSWERED: &str = ASKED[1];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encoding OpenAPI v2: {key:?} has no place in {holder}")]
pub(super) struct Unencodable {
    key: String,
    holder: &'static str,
}

pub(super) fn encode(document: &Value) -> Result<Vec<u8>, Unencodable> {
    message(&DOCUMENT, document)
}

struct Message {
    name: &'static str,
    fields: &'static [(&'static str, u32, Form)],
    /// Where keys that begin with `x-` go.
    extensions: Option<u32>,
}

#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    Number,
    Count,
    Anything,
    /// `additionalProperties`: a schema, or whether there may be any.
    SchemaOrFlag,
    /// One text or a list of them.
    Texts,
    Message(&'static Message),
    /// A list of these.
    Each(&'static Form),
    /// An object whose keys are names: a pair per member.
    Named(&'static Form),
    /// This number inside a message of its own.
    Within(u32, &'static Form),
    /// Which message it is stands in its `in`.
    Parameter,
}

use Form::{Anything, Count, Each, Flag, Named, Number, Parameter, SchemaOrFlag, Text, Texts, Within};

static DOCUMENT: Message = Message {
    name: "a document",
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, Form::Message(&INFO)),
        ("paths", 8, Within(2, &Named(&Form::Message(&PATH_ITEM)))),
        ("definitions", 9, Within(1, &Named(&Form::Message(&SCHEMA)))),
        ("security", 12, Each(&Within(1, &Named(&Within(1, &Texts))))),
        ("securityDefinitions", 13, Within(1, &Named(&Within(2, &Form::Message(&API_KEY))))),
    ],
    extensions: Some(16),
};

static INFO: Message =
    Message { name: "info", fields: &[("title", 1, Text), ("version", 2, Text)], extensions: Some(7) };

static API_KEY: Message = Message {
    name: "an API key",
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text)],
    extensions: Some(5),
};

static PATH_ITEM: Message = Message {
    name: "a path",
    fields: &[
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Each(&Parameter)),
    ],
    extensions: Some(10),
};

static OPERATION: Message = Message {
    name: "an operation",
    fields: &[
        ("parameters", 8, Each(&Parameter)),
        ("responses", 9, Within(1, &Named(&Within(1, &Form::Message(&RESPONSE))))),
    ],
    extensions: Some(13),
};

static RESPONSE: Message = Message {
    name: "a response",
    fields: &[("description", 1, Text), ("schema", 2, Within(1, &Form::Message(&SCHEMA)))],
    extensions: Some(5),
};

static BODY_PARAMETER: Message = Message {
    name: "a body parameter",
    fields: &[("name", 2, Text), ("in", 3, Text), ("required", 4, Flag), ("schema", 5, Form::Message(&SCHEMA))],
    extensions: Some(6),
};

static QUERY_PARAMETER: Message = Message {
    name: "a query parameter",
    fields: &[("required", 1, Flag), ("in", 2, Text), ("name", 4, Text), ("type", 6, Text), ("uniqueItems", 20, Flag)],
    extensions: Some(23),
};

static PATH_PARAMETER: Message = Message {
    name: "a path parameter",
    fields: &[("required", 1, Flag), ("in", 2, Text), ("name", 4, Text), ("type", 5, Text), ("uniqueItems", 19, Flag)],
    extensions: Some(22),
};

static BODY: Form = Within(1, &Within(1, &Form::Message(&BODY_PARAMETER)));
static PATH: Form = Within(1, &Within(2, &Within(4, &Form::Message(&PATH_PARAMETER))));
static QUERY: Form = Within(1, &Within(2, &Within(3, &Form::Message(&QUERY_PARAMETER))));

static SCHEMA: Message = Message {
    name: "a schema",
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Anything),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Count),
        ("minLength", 12, Count),
        ("pattern", 13, Text),
        ("maxItems", 14, Count),
        ("minItems", 15, Count),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Count),
        ("minProperties", 18, Count),
        ("required", 19, Texts),
        ("enum", 20, Each(&Anything)),
        ("additionalProperties", 21, SchemaOrFlag),
        ("type", 22, Within(1, &Texts)),
        ("items", 23, Within(1, &Form::Message(&SCHEMA))),
        ("allOf", 24, Each(&Form::Message(&SCHEMA))),
        ("properties", 25, Within(1, &Named(&Form::Message(&SCHEMA)))),
        ("externalDocs", 29, Form::Message(&DOCS)),
        ("example", 30, Anything),
    ],
    extensions: Some(31),
};

static NESTED: Form = Form::Message(&SCHEMA);

static DOCS: Message = Message {
    name: "a reference to documentation",
    fields: &[("description", 1, Text), ("url", 2, Text)],
    extensions: Some(3),
};

/// What the schema of a custom resource may say and version 2 cannot.
const NOT_IN_V2: [&str; 10] = [
    "oneOf",
    "anyOf",
    "not",
    "nullable",
    "id",
    "$schema",
    "patternProperties",
    "dependencies",
    "definitions",
    "additionalItems",
];

fn message(shape: &Message, value: &Value) -> Result<Vec<u8>, Unencodable> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let known = shape.fields.iter().find(|(name, ..)| name == key);
        match (known, shape.extensions) {
            (Some((_, number, form)), _) => put(&mut out, *number, *form, value)?,
            (None, Some(number)) if key.starts_with("x-") => {
                put_named(&mut out, number, key, &anything(value));
            }
            (None, _) if std::ptr::eq(shape, &SCHEMA) && NOT_IN_V2.contains(&key.as_str()) => {}
            _ => return Err(Unencodable { key: key.clone(), holder: shape.name }),
        }
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, number: u32, form: Form, value: &Value) -> Result<(), Unencodable> {
    match form {
        Text => wire::put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Flag => wire::put_varint(out, number, u64::from(value == true)),
        Number => wire::put_fixed64(out, number, value.as_f64().unwrap_or_default().to_bits()),
        Count => wire::put_varint(out, number, value.as_i64().unwrap_or_default().cast_unsigned()),
        Anything => wire::put_bytes(out, number, &anything(value)),
        SchemaOrFlag if value.is_boolean() => put(out, number, Within(2, &Flag), value)?,
        SchemaOrFlag => put(out, number, Within(1, &NESTED), value)?,
        Texts => match value {
            Value::Array(texts) => texts.iter().try_for_each(|text| put(out, number, Text, text))?,
            text => put(out, number, Text, text)?,
        },
        Form::Message(shape) => wire::put_bytes(out, number, &message(shape, value)?),
        Each(form) => value.as_array().into_iter().flatten().try_for_each(|item| put(out, number, *form, item))?,
        Named(form) => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let mut pair = Vec::new();
                wire::put_bytes(&mut pair, 1, name.as_bytes());
                put(&mut pair, 2, *form, value)?;
                wire::put_bytes(out, number, &pair);
            }
        }
        Within(inner, form) => {
            let mut nested = Vec::new();
            put(&mut nested, inner, *form, value)?;
            wire::put_bytes(out, number, &nested);
        }
        Parameter => {
            let form = match value["in"].as_str() {
                Some("body") => &BODY,
                Some("path") => &PATH,
                _ => &QUERY,
            };
            put(out, number, *form, value)?;
        }
    }
    Ok(())
}

/// JSON is YAML, which is how the format holds values of no known type.
fn anything(value: &Value) -> Vec<u8> {
    let mut any = Vec::new();
    wire::put_bytes(&mut any, 2, value.to_string().as_bytes());
    any
}

fn put_named(out: &mut Vec<u8>, number: u32, name: &str, value: &[u8]) {
    let mut pair = Vec::new();
    wire::put_bytes(&mut pair, 1, name.as_bytes());
    wire::put_bytes(&mut pair, 2, value);
    wire::put_bytes(out, number, &pair);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::protobuf::wire::{Wire, fields};

    /// The bytes at a path of field numbers; the last of each, as decoders of protobuf take it.
    fn at<'a>(mut bytes: &'a [u8], path: &[u32]) -> &'a [u8] {
        for wanted in path {
            let found = fields(bytes).map(Result::unwrap).filter(|(number, _)| number == wanted).last();
            bytes = found.unwrap_or_else(|| panic!("field {wanted} of {path:?}")).1.bytes().unwrap();
        }
        bytes
    }

    #[test]
    fn facts_are_where_gnostic_puts_them() {
        let document = json!({
            "swagger": "2.0",
            "paths": { "/api": { "patch": {
                "parameters": [{ "name": "fieldValidation", "in": "query", "type": "string", "uniqueItems": true }],
                "responses": { "200": { "description": "OK", "schema": { "$ref": "#/definitions/A" } } },
                "x-kubernetes-action": "patch",
            } } },
            "definitions": { "A": { "type": "object", "required": ["b"], "properties": {
                "b": { "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "set" },
            } } },
        });
        let bytes = encode(&document).unwrap();
        assert_eq!(at(&bytes, &[1]), b"2.0");
        assert_eq!(at(&bytes, &[8, 2, 1]), b"/api");
        let patch = at(&bytes, &[8, 2, 2, 8]);
        let parameter = at(patch, &[8, 1, 2, 3]);
        assert_eq!(at(parameter, &[4]), b"fieldValidation");
        assert!(fields(parameter).any(|field| field == Ok((20, Wire::Varint(1)))));
        assert_eq!(at(patch, &[9, 1, 2, 1, 2, 1, 1]), b"#/definitions/A");
        assert_eq!((at(patch, &[13, 1]), at(patch, &[13, 2, 2])), (&b"x-kubernetes-action"[..], &b"\"patch\""[..]));
        let schema = at(&bytes, &[9, 1, 2]);
        assert_eq!((at(schema, &[22, 1]), at(schema, &[19])), (&b"object"[..], &b"b"[..]));
        let b = at(schema, &[25, 1, 2]);
        assert_eq!((at(b, &[23, 1, 22, 1]), at(b, &[31, 2, 2])), (&b"string"[..], &b"\"set\""[..]));
    }

    #[test]
    fn schemas_of_custom_resources_say_more() {
        let document = json!({ "definitions": { "A": {
            "oneOf": [{}], "nullable": true, "additionalProperties": true, "default": { "a": 1 }, "maximum": 2.5,
            "maxLength": 7, "enum": ["x"], "pattern": "^a$",
        } } });
        let schema = encode(&document).unwrap();
        let schema = at(&schema, &[9, 1, 2]);
        assert_eq!(
            (at(schema, &[5, 2]), at(schema, &[20, 2]), at(schema, &[13])),
            (&br#"{"a":1}"#[..], &br#""x""#[..], &b"^a$"[..])
        );
        let has = |number, wire| fields(schema).any(|field| field == Ok((number, wire)));
        assert!(has(7, Wire::Fixed64(2.5f64.to_bits())) && has(11, Wire::Varint(7)));
        assert!(fields(at(schema, &[21])).any(|field| field == Ok((2, Wire::Varint(1)))));
    }

    #[test]
    fn what_has_no_place_is_not_lost_silently() {
        let unknown = encode(&json!({ "definitions": { "A": { "colour": 1 } } })).unwrap_err();
        assert_eq!(unknown.to_string(), "encoding OpenAPI v2: \"colour\" has no place in a schema");
    }
}
