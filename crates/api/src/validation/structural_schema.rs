//! The schemas of custom resources: structural, so that pruning and defaulting know every field's type, and within the
//! part of OpenAPI v3 that Kubernetes takes. Rules in CEL are checked for being there: they are compiled where they
//! are evaluated.

use base_meta::field::{Error, Path};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::custom_resource_definition::items;
use super::{Errors, said};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Where a schema stands, which decides what an absent type is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What the schemas above allow here.
#[derive(Clone, Default)]
struct Above {
    /// Why there may be no default.
    no_default: Option<String>,
    /// In the type or metadata of a resource.
    in_meta: bool,
}

pub(super) fn root(schema: &JSONSchemaProps, status: bool, path: &Path, errors: &mut Errors) {
    if status {
        root_with_status(schema, path, errors);
    }
    if schema.nullable == Some(true) {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let mut found = Errors::new();
    structural(schema, Level::Root, path, &mut found);
    // As upstream, which walks maps in random order.
    found.sort_by_key(ToString::to_string);
    errors.append(&mut found);
    open_api(schema, true, &Above::default(), path, errors);
}

/// Upstream's own names of the fields, in its order.
const ALLOWED_AT_ROOT: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// The schema of status is taken out of the root's: rules that span both would be lost.
fn root_with_status(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let kind = said(&schema.type_);
    if !kind.is_empty() && kind != "object" {
        let detail =
            r#"only "object" is allowed as the type at the root of the schema if the status subresource is enabled"#;
        errors.push(Error::invalid(&path.child("type"), kind, detail));
        return;
    }
    let more = schema.all_of.is_some()
        || schema.any_of.is_some()
        || schema.one_of.is_some()
        || schema.not.is_some()
        || schema.enum_.is_some()
        || schema.additional_properties.is_some()
        || schema.default.is_some()
        || schema.max_properties.is_some()
        || schema.min_properties.is_some();
    if more {
        let detail = format!(
            "only {ALLOWED_AT_ROOT} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(Error::invalid(path, &super::json(schema), detail));
    }
}

fn structural(schema: &JSONSchemaProps, level: Level, path: &Path, errors: &mut Errors) {
    let kind = said(&schema.type_);
    let embedded = schema.x_kubernetes_embedded_resource == Some(true);
    let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    let either = schema.x_kubernetes_int_or_string == Some(true);
    if kind == "array" && schema.items.is_none() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = items(schema) {
        structural(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema.properties.iter().flatten() {
        structural(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let at = path.child("additionalProperties");
    if let Some(more) = &schema.additional_properties {
        if level == Level::Root {
            errors.push(Error::forbidden(&at, "must not be used at the root"));
        }
        if let JSONSchemaPropsOrBool::Schema(more) = more {
            structural(more, Level::Field, &at, errors);
        }
    }
    let exclusive = "must be false if x-kubernetes-int-or-string is true";
    if either && open {
        errors.push(Error::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), true, exclusive));
    }
    if either && embedded {
        errors.push(Error::invalid(&path.child("x-kubernetes-embedded-resource"), true, exclusive));
    }
    junctors(schema, skips(schema), path, errors);

    let at_type = path.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => Error::required(&at_type, detail),
            kind => Error::invalid(&at_type, kind, detail),
        });
    } else if kind.is_empty() && !either && !open {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&at_type, detail));
    }
    if embedded && schema.additional_properties.is_some() {
        errors.push(Error::forbidden(&at, "must not be used if x-kubernetes-embedded-resource is set"));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Error::invalid(&at_type, kind, "must be object at the root"));
    }
    if level == Level::Root || embedded {
        meta(schema, level, path, errors);
    }
    if embedded && !open && schema.properties.as_ref().is_none_or(|properties| properties.is_empty()) {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
}

/// The fields that every object has: their schemas may repeat what is known, and say of metadata how names look.
fn meta(schema: &JSONSchemaProps, level: Level, path: &Path, errors: &mut Errors) {
    let at = path.child("properties");
    let property = |name: &str| schema.properties.as_ref().and_then(|properties| properties.get(name));
    for (name, kind) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        if let Some(found) = property(name).map(|property| said(&property.type_)).filter(|found| *found != kind) {
            let path = at.key(name).child("type");
            errors.push(Error::invalid(&path, found, format!("must be {kind}")));
        }
    }
    if let Some(metadata) = property("metadata").filter(|_| level == Level::Root) {
        let names = metadata.properties.iter().flatten().map(|(name, _)| name.as_str());
        let only_names = names.into_iter().all(|name| matches!(name, "name" | "generateName"));
        let rest =
            JSONSchemaProps { type_: None, properties: None, default: None, description: None, ..metadata.clone() };
        if !only_names || rest != JSONSchemaProps::default() {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&at.key("metadata"), detail));
        }
    }
}

/// Which junctors are the two ways to write int-or-string, which are known to be structural.
#[derive(Clone, Copy)]
struct Skips {
    any_of: bool,
    first_all_of: bool,
}

fn skips(schema: &JSONSchemaProps) -> Skips {
    let typed = |kind: &str| JSONSchemaProps { type_: Some(kind.to_owned()), ..JSONSchemaProps::default() };
    let pattern = [typed("integer"), typed("string")];
    let is = |any_of: &Option<Vec<JSONSchemaProps>>| any_of.as_deref() == Some(&pattern[..]);
    let either = schema.x_kubernetes_int_or_string == Some(true);
    Skips {
        any_of: either && is(&schema.any_of),
        first_all_of: either
            && schema.all_of.as_ref().and_then(|all| all.first()).is_some_and(|first| is(&first.any_of)),
    }
}

fn junctors(schema: &JSONSchemaProps, skips: Skips, path: &Path, errors: &mut Errors) {
    let none = Skips { any_of: false, first_all_of: false };
    if !skips.any_of {
        for (index, each) in schema.any_of.iter().flatten().enumerate() {
            nested(each, none, &path.child("anyOf").index(index), errors);
        }
    }
    for (index, each) in schema.all_of.iter().flatten().enumerate() {
        let skips = Skips { any_of: skips.first_all_of && index == 0, first_all_of: false };
        nested(each, skips, &path.child("allOf").index(index), errors);
    }
    for (index, each) in schema.one_of.iter().flatten().enumerate() {
        nested(each, none, &path.child("oneOf").index(index), errors);
    }
    if let Some(not) = &schema.not {
        nested(not, none, &path.child("not"), errors);
    }
}

/// Under a junctor a schema may restrict values, but not say what fields there are.
fn nested(schema: &JSONSchemaProps, skips: Skips, path: &Path, errors: &mut Errors) {
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    junctors(schema, skips, path, errors);
    if let Some(items) = items(schema) {
        nested(items, Skips { any_of: false, first_all_of: false }, &path.child("items"), errors);
    }
    for (name, property) in schema.properties.iter().flatten() {
        let path = path.child("properties").key(name);
        nested(property, Skips { any_of: false, first_all_of: false }, &path, errors);
        if name == "metadata" {
            errors.push(Error::forbidden(&path, "must not be specified in a nested context"));
        }
    }
    let given = |text: &Option<String>| !said(text).is_empty();
    for (field, there, detail) in [
        ("type", given(&schema.type_), EMPTY),
        ("additionalProperties", schema.additional_properties.is_some(), UNDEFINED),
        ("default", schema.default.is_some(), UNDEFINED),
        ("title", given(&schema.title), EMPTY),
        ("description", given(&schema.description), EMPTY),
        ("nullable", schema.nullable == Some(true), FALSE),
        ("x-kubernetes-preserve-unknown-fields", schema.x_kubernetes_preserve_unknown_fields == Some(true), FALSE),
        ("x-kubernetes-embedded-resource", schema.x_kubernetes_embedded_resource == Some(true), FALSE),
        ("x-kubernetes-int-or-string", schema.x_kubernetes_int_or_string == Some(true), FALSE),
        ("x-kubernetes-list-map-keys", schema.x_kubernetes_list_map_keys.is_some(), EMPTY),
        ("x-kubernetes-list-type", schema.x_kubernetes_list_type.is_some(), UNDEFINED),
        ("x-kubernetes-map-type", schema.x_kubernetes_map_type.is_some(), UNDEFINED),
        ("x-kubernetes-validations", schema.x_kubernetes_validations.is_some(), EMPTY),
    ] {
        if there {
            errors.push(Error::forbidden(&path.child(field), detail));
        }
    }
}

fn open_api(schema: &JSONSchemaProps, is_root: bool, above: &Above, path: &Path, errors: &mut Errors) {
    unsupported(schema, above, path, errors);
    if schema.unique_items == Some(true) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), detail));
    }
    if let Some(more) = &schema.additional_properties {
        let at = path.child("additionalProperties");
        let properties = schema.properties.as_ref().is_some_and(|properties| !properties.is_empty());
        if properties && *more != JSONSchemaPropsOrBool::Bool(true) {
            errors.push(Error::forbidden(&at, "additionalProperties and properties are mutual exclusive"));
        }
        if let JSONSchemaPropsOrBool::Schema(more) = more {
            let mut below = above.clone();
            if above.in_meta {
                below.no_default = Some("inside additionalProperties applying to object metadata".to_owned());
            }
            open_api(more, false, &below, &at, errors);
        }
    }
    for (name, property) in schema.properties.iter().flatten() {
        let mut below = above.clone();
        let embedded = schema.x_kubernetes_embedded_resource == Some(true);
        if (is_root || embedded) && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
            below.in_meta = true;
            if is_root {
                below.no_default = Some(format!("in top-level {name}"));
            }
        }
        open_api(property, false, &below, &path.child("properties").key(name), errors);
    }
    if let Some(not) = &schema.not {
        open_api(not, false, above, &path.child("not"), errors);
    }
    for (field, list) in [("allOf", &schema.all_of), ("oneOf", &schema.one_of), ("anyOf", &schema.any_of)] {
        for (index, each) in list.iter().flatten().enumerate() {
            open_api(each, false, above, &path.child(field).index(index), errors);
        }
    }
    if let Some(items) = items(schema) {
        open_api(items, false, above, &path.child("items"), errors);
    }
    if schema.x_kubernetes_preserve_unknown_fields == Some(false) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&path, false, "must be true or undefined"));
    }
    map_type(schema, path, errors);
    list_type(schema, path, errors);
    rules(schema, path, errors);
}

fn unsupported(schema: &JSONSchemaProps, above: &Above, path: &Path, errors: &mut Errors) {
    let kind = said(&schema.type_);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, TYPES));
    }
    if let Some(reason) = above.no_default.as_ref().filter(|_| schema.default.is_some()) {
        errors.push(Error::forbidden(&path.child("default"), format!("must not be set {reason}")));
    }
    for (field, there) in [
        ("id", !said(&schema.id).is_empty()),
        ("additionalItems", schema.additional_items.is_some()),
        ("patternProperties", schema.pattern_properties.as_ref().is_some_and(|all| !all.is_empty())),
        ("definitions", schema.definitions.as_ref().is_some_and(|all| !all.is_empty())),
        ("dependencies", schema.dependencies.is_some()),
        ("$ref", schema.ref_path.is_some()),
    ] {
        if there {
            errors.push(Error::forbidden(&path.child(field), format!("{field} is not supported")));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(&path.child("type"), detail));
    }
    if matches!(&schema.items, Some(JSONSchemaPropsOrArray::Schemas(all)) if !all.is_empty()) {
        errors.push(Error::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if above.in_meta && schema.x_kubernetes_embedded_resource == Some(true) {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(Error::forbidden(&path, "must not be used inside of resource meta"));
    }
}

/// The type that an extension needs.
fn needs_type(schema: &JSONSchemaProps, kind: &str, extension: &str, path: &Path, errors: &mut Errors) -> bool {
    let (found, path) = (said(&schema.type_), path.child("type"));
    let detail = format!("must be {kind} if {extension} is specified");
    match found {
        "" => errors.push(Error::required(&path, detail)),
        found if found != kind => errors.push(Error::invalid(&path, found, detail)),
        _ => return true,
    }
    false
}

fn map_type(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    const NAME: &str = "x-kubernetes-map-type";
    let Some(kind) = &schema.x_kubernetes_map_type else { return };
    needs_type(schema, "object", NAME, path, errors);
    if !matches!(kind.as_str(), "atomic" | "granular") {
        errors.push(Error::not_supported(&path.child(NAME), kind, &["atomic", "granular"]));
    }
}

fn list_type(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    const NAME: &str = "x-kubernetes-list-type";
    let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
    let (at, at_keys) = (path.child(NAME), path.child("x-kubernetes-list-map-keys"));
    let Some(kind) = schema.x_kubernetes_list_type.as_deref() else {
        if !keys.is_empty() {
            errors.push(Error::required(&at, "must be map if x-kubernetes-list-map-keys is non-empty"));
        }
        return;
    };
    let item = items(schema);
    let at_items = path.child("items");
    if needs_type(schema, "array", NAME, path, errors)
        && let Some(item) = item.filter(|_| kind == "set")
    {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let not_atomic = |value: &Option<String>| value.as_deref() != Some("atomic");
        match said(&item.type_) {
            "array" if item.x_kubernetes_list_type.is_some() && not_atomic(&item.x_kubernetes_list_type) => {
                errors.push(Error::invalid(&at_items.child(NAME), said(&item.x_kubernetes_list_type), detail));
            }
            "object" if not_atomic(&item.x_kubernetes_map_type) => {
                errors.push(Error::invalid(&at_items.child("x-kubernetes-map-type"), &Value::Null, detail));
            }
            _ => {}
        }
    }
    if !matches!(kind, "atomic" | "set" | "map") {
        errors.push(Error::not_supported(&at, kind, &["atomic", "set", "map"]));
    }
    if !keys.is_empty() && kind != "map" {
        errors.push(Error::invalid(&at, kind, "must be map if x-kubernetes-list-map-keys is non-empty"));
    }
    if kind == "map" {
        if keys.is_empty() {
            errors.push(Error::required(&at_keys, "must not be empty if x-kubernetes-list-type is map"));
        }
        match item {
            None => errors.push(Error::required(&at_items, "must have a schema if x-kubernetes-list-type is map")),
            Some(item) if said(&item.type_) != "object" => {
                let detail = "must be object if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&at_items.child("type"), said(&item.type_), detail));
            }
            Some(item) => map_keys(keys, item, path, errors),
        }
    }
    if matches!(kind, "set" | "map") && item.is_some_and(|item| item.nullable == Some(true)) {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(Error::forbidden(&at_items.child("nullable"), detail));
    }
}

fn map_keys(keys: &[String], item: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let (at_keys, at) = (path.child("x-kubernetes-list-map-keys"), path.child("items").child("properties"));
    for (index, key) in keys.iter().enumerate() {
        let property = item.properties.as_ref().and_then(|properties| properties.get(key));
        match property.map(|property| said(&property.type_)) {
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(Error::invalid(&at_keys, &super::json(&keys), detail));
            }
            Some("array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&at.key(key).child("type"), said(&item.type_), detail));
            }
            Some(_) => {}
        }
        if keys[..index].contains(key) {
            errors.push(Error::invalid(&at_keys, &super::json(&keys), "must not contain duplicate entries"));
        }
        let Some(property) = property else { continue };
        if property.default.is_none() && !item.required.iter().flatten().any(|name| name == key) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&at.key(key).child("default"), detail));
        }
        if property.nullable == Some(true) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at.key(key).child("nullable"), detail));
        }
    }
}

fn rules(schema: &JSONSchemaProps, path: &Path, errors: &mut Errors) {
    let lines = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in schema.x_kubernetes_validations.iter().flatten().enumerate() {
        let path = path.child("x-kubernetes-validations").index(index);
        let (text, message) = (rule.rule.trim(), said(&rule.message));
        let at = path.child("message");
        if text.is_empty() {
            errors.push(Error::required(&path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(&at, message, "message must be non-empty if specified"));
        } else if lines(message.trim()) {
            errors.push(Error::invalid(&at, message, "message must not contain line breaks"));
        } else if lines(text) && message.trim().is_empty() {
            errors.push(Error::required(&at, "message must be specified if rule contains line breaks"));
        }
        let expression = said(&rule.message_expression);
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&path.child("messageExpression"), detail));
        }
        if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported(&path.child("reason"), reason, REASONS));
        }
        let field = said(&rule.field_path);
        if !field.is_empty() && field.trim().is_empty() {
            let detail = "fieldPath must be non-empty if specified";
            errors.push(Error::invalid(&path.child("fieldPath"), field, detail));
        }
        if lines(field) {
            errors.push(Error::invalid(&path.child("fieldPath"), field, "fieldPath must not contain line breaks"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{object, printed};
    use super::*;

    fn found(schema: Value) -> Vec<String> {
        let mut errors = Errors::new();
        root(&object(schema), false, &Path::new("s"), &mut errors);
        printed(errors)
    }

    #[test]
    fn good_schemas_are_structural() {
        for schema in [
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            json!({"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"type": "object",
                "properties": {"port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}},
                "anyOf": [{"required": ["port"]}]}}}),
            json!({"type": "object", "properties": {"list": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "required": ["name"],
                    "properties": {"name": {"type": "string"}}}}}}),
        ] {
            assert_eq!(found(schema.clone()), [""; 0], "{schema}");
        }
    }

    #[test]
    fn each_rule_names_its_field() {
        let field = |schema: Value| found(json!({"type": "object", "properties": {"a": schema}}));
        let table = [
            (json!({}), "type: Required value: must not be empty for specified object fields"),
            (json!({"type": "array"}), "items: Required value: must be specified"),
            (
                json!({"type": "array", "items": {}}),
                "items.type: Required value: must not be empty for specified array items",
            ),
            (json!({"type": "file"}), "type: Unsupported value: \"file\": supported values: \"array\", \"boolean\""),
            (
                json!({"type": "object", "anyOf": [{"type": "object"}]}),
                "anyOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                "additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
                "uniqueItems: Forbidden: uniqueItems",
            ),
            (json!({"type": "object", "$ref": "x"}), "$ref: Forbidden: $ref is not supported"),
            (
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "x"}),
                "x-kubernetes-list-type: Unsupported value: \"x\": supported values: \"atomic\", \"set\", \"map\"",
            ),
            (
                json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
                "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ),
            (
                json!({"type": "object", "x-kubernetes-validations": [{"rule": " "}]}),
                "x-kubernetes-validations[0].rule: Required value: rule is not specified",
            ),
            (
                json!({"type": "object", "x-kubernetes-embedded-resource": true}),
                "properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without",
            ),
        ];
        for (schema, expected) in table {
            let found = field(schema.clone());
            let expected = format!("s.properties[a].{expected}");
            assert!(found.len() == 1 && found[0].starts_with(&expected), "{schema}: {found:?}");
        }
        assert_eq!(found(json!({})), ["s.type: Required value: must not be empty at the root"]);
        assert_eq!(
            found(
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}})
            ),
            [
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            ]
        );
        let mut errors = Errors::new();
        root(&object(json!({"type": "object", "anyOf": [{"required": ["a"]}]})), true, &Path::new("s"), &mut errors);
        assert!(printed(errors)[0].contains("fields are allowed at the root of the schema if the status subresource"));
    }
}
