//! A `JSONSchemaProps` document to a [`Schema`].

use regex::Regex;
use serde_json::{Map, Value};

use crate::schema::{Additional, Checks, ListType, Rule, Schema, Type};

#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    #[error("reading the schema of {path}: not an object")]
    NotAnObject { path: String },
    #[error("reading the schema of {path}: unknown type {kind:?}")]
    UnknownType { path: String, kind: String },
    #[error("reading the schema of {path}: pattern {pattern:?}")]
    Pattern { path: String, pattern: String, source: regex::Error },
    #[error("reading the schema of {path}: nested too deeply")]
    TooDeep { path: String },
}

/// Deeper than any schema of sense, shallow enough for any stack.
const MAX_DEPTH: usize = 100;

impl Schema {
    pub fn parse(document: &Value) -> Result<Self, ParseError> {
        schema(document, "openAPIV3Schema", 0)
    }
}

fn schema(document: &Value, path: &str, depth: usize) -> Result<Schema, ParseError> {
    if depth > MAX_DEPTH {
        return Err(ParseError::TooDeep { path: path.to_owned() });
    }
    let Value::Object(fields) = document else {
        return Err(ParseError::NotAnObject { path: path.to_owned() });
    };
    let child = |name: &str, document: &Value| schema(document, &format!("{path}.{name}"), depth + 1);
    let mut properties = std::collections::BTreeMap::new();
    if let Some(Value::Object(entries)) = fields.get("properties") {
        for (name, document) in entries {
            properties.insert(name.clone(), child(&format!("properties[{name}]"), document)?);
        }
    }
    let additional = match fields.get("additionalProperties") {
        Some(Value::Bool(any)) => Some(Additional::Any(*any)),
        Some(Value::Null) | None => None,
        Some(document) => Some(Additional::Schema(Box::new(child("additionalProperties", document)?))),
    };
    let items = match fields.get("items") {
        Some(Value::Null) | None => None,
        Some(document) => Some(Box::new(child("items", document)?)),
    };
    Ok(Schema {
        kind: kind(fields, path)?,
        nullable: flag(fields, "nullable"),
        int_or_string: flag(fields, "x-kubernetes-int-or-string"),
        embedded: flag(fields, "x-kubernetes-embedded-resource"),
        preserve_unknown: flag(fields, "x-kubernetes-preserve-unknown-fields"),
        default: fields.get("default").filter(|value| !value.is_null()).cloned(),
        properties,
        additional,
        items,
        list: list_type(fields),
        atomic_map: text(fields, "x-kubernetes-map-type") == "atomic",
        checks: checks(fields, path, &child)?,
        rules: rules(fields),
    })
}

fn kind(fields: &Map<String, Value>, path: &str) -> Result<Type, ParseError> {
    Ok(match text(fields, "type").as_str() {
        "" => Type::Any,
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        other => return Err(ParseError::UnknownType { path: path.to_owned(), kind: other.to_owned() }),
    })
}

fn list_type(fields: &Map<String, Value>) -> ListType {
    match text(fields, "x-kubernetes-list-type").as_str() {
        "set" => ListType::Set,
        "map" => ListType::Map(texts(fields, "x-kubernetes-list-map-keys")),
        _ => ListType::Atomic,
    }
}

fn checks(
    fields: &Map<String, Value>,
    path: &str,
    child: &dyn Fn(&str, &Value) -> Result<Schema, ParseError>,
) -> Result<Checks, ParseError> {
    let pattern = match text(fields, "pattern") {
        pattern if pattern.is_empty() => None,
        pattern => match Regex::new(&pattern) {
            Ok(regex) => Some(regex),
            Err(source) => return Err(ParseError::Pattern { path: path.to_owned(), pattern, source }),
        },
    };
    let several = |name: &str| -> Result<Vec<Schema>, ParseError> {
        let Some(Value::Array(documents)) = fields.get(name) else { return Ok(Vec::new()) };
        documents.iter().enumerate().map(|(index, document)| child(&format!("{name}[{index}]"), document)).collect()
    };
    let not = match fields.get("not") {
        Some(document @ Value::Object(_)) => Some(Box::new(child("not", document)?)),
        _ => None,
    };
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    Ok(Checks {
        format: text(fields, "format"),
        pattern,
        min_length: count("minLength"),
        max_length: count("maxLength"),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag(fields, "exclusiveMinimum"),
        exclusive_maximum: flag(fields, "exclusiveMaximum"),
        multiple_of: number("multipleOf"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        unique_items: flag(fields, "uniqueItems"),
        min_properties: count("minProperties"),
        max_properties: count("maxProperties"),
        required: texts(fields, "required"),
        enumeration: fields.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        all_of: several("allOf")?,
        any_of: several("anyOf")?,
        one_of: several("oneOf")?,
        not,
    })
}

fn rules(fields: &Map<String, Value>) -> Vec<Rule> {
    let Some(Value::Array(rules)) = fields.get("x-kubernetes-validations") else { return Vec::new() };
    rules
        .iter()
        .filter_map(Value::as_object)
        .map(|rule| Rule {
            rule: text(rule, "rule"),
            message: text(rule, "message"),
            message_expression: text(rule, "messageExpression"),
            reason: text(rule, "reason"),
            field_path: text(rule, "fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
        })
        .collect()
}

fn flag(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let Some(Value::Array(values)) = fields.get(name) else { return Vec::new() };
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
