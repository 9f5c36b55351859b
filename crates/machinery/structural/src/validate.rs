//! Values against a schema, with upstream's words.
//!
//! On an update, what is as it was is not judged again: a schema that became stricter does not lock its old objects.

use base_meta::field::{Error, Path};
use serde_json::{Map, Value};

use crate::lists::Before;
use crate::number::{is_multiple, is_whole, same};
use crate::schema::{Additional, Schema, Type};
use crate::{format, lists};

impl Schema {
    /// Everything wrong with a value. `path` is empty for a whole object.
    pub fn validate(&self, path: &Path, value: &Value) -> Vec<Error> {
        let mut errors = Vec::new();
        Judge { path: path.clone(), old: None }.value(self, value, &mut errors);
        errors
    }

    /// The same, except for what `old` already was.
    pub fn validate_update(&self, path: &Path, value: &Value, old: &Value) -> Vec<Error> {
        let mut errors = Vec::new();
        Judge { path: path.clone(), old: Some(old) }.value(self, value, &mut errors);
        errors
    }
}

/// Where we are, and what was there before.
struct Judge<'a> {
    path: Path,
    old: Option<&'a Value>,
}

impl Judge<'_> {
    fn value(&self, schema: &Schema, value: &Value, errors: &mut Vec<Error>) {
        if self.old.is_some_and(|old| old == value) {
            return;
        }
        if value.is_null() && schema.nullable {
            return;
        }
        if !type_fits(schema, value) {
            errors.push(self.type_error(schema, value));
            return;
        }
        self.composed(schema, value, errors);
        self.enumerated(schema, value, errors);
        match value {
            Value::String(text) => self.text(schema, text, errors),
            Value::Number(number) => self.number(schema, number, errors),
            Value::Array(items) => self.items(schema, items, errors),
            Value::Object(fields) => self.fields(schema, fields, errors),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn type_error(&self, schema: &Schema, value: &Value) -> Error {
        let found = type_name(value);
        let wanted = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
        self.type_invalid(found, format!("{} in body must be of type {wanted}: {found:?}", self.path))
    }

    fn type_invalid(&self, value: &str, detail: String) -> Error {
        Error::type_invalid(&self.named(), value, detail)
    }

    /// The path as errors print it: a whole object has none.
    fn named(&self) -> Path {
        if self.path == Path::default() { Path::new("<nil>") } else { self.path.clone() }
    }

    fn invalid(&self, value: &Value, what: &str) -> Error {
        Error::invalid(&self.named(), value, format!("{} in body {what}", self.path))
    }

    fn composed(&self, schema: &Schema, value: &Value, errors: &mut Vec<Error>) {
        let checks = &schema.checks;
        let failures = |alternatives: &[Schema]| -> Vec<Vec<Error>> {
            let fresh = Judge { path: self.path.clone(), old: None };
            alternatives
                .iter()
                .map(|schema| {
                    let mut errors = Vec::new();
                    fresh.value(schema, value, &mut errors);
                    errors
                })
                .collect()
        };
        let mut complain = |detail: String| errors.push(Error::invalid(&Path::new("<nil>"), "", detail));
        let path = self.path.to_string();
        let mut details = Vec::new();
        if !checks.any_of.is_empty() {
            let failed = failures(&checks.any_of);
            if failed.iter().all(|errors| !errors.is_empty()) {
                complain(format!("{path:?} must validate at least one schema (anyOf)"));
                details.extend(failed.into_iter().next());
            }
        }
        if !checks.one_of.is_empty() {
            let failed = failures(&checks.one_of);
            let fit = failed.iter().filter(|errors| errors.is_empty()).count();
            let found =
                if fit == 0 { "Found none valid".to_owned() } else { format!("Found {fit} valid alternatives") };
            if fit != 1 {
                complain(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
            }
            if fit == 0 {
                details.extend(failed.into_iter().next());
            }
        }
        if !checks.all_of.is_empty() {
            let failed = failures(&checks.all_of);
            let bad = failed.iter().filter(|errors| !errors.is_empty()).count();
            if bad > 0 {
                let none = if bad == failed.len() { ". None validated" } else { "" };
                complain(format!("{path:?} must validate all the schemas (allOf){none}"));
            }
            details.extend(failed);
        }
        if let Some(not) = &checks.not
            && failures(std::slice::from_ref(not.as_ref())).iter().all(Vec::is_empty)
        {
            complain(format!("{path:?} must not validate the schema (not)"));
        }
        errors.extend(details.into_iter().flatten());
    }

    fn enumerated(&self, schema: &Schema, value: &Value, errors: &mut Vec<Error>) {
        let allowed = &schema.checks.enumeration;
        if allowed.is_empty() || allowed.iter().any(|allowed| same(allowed, value)) {
            return;
        }
        let allowed: Vec<String> =
            allowed.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        errors.push(Error::not_supported(&self.named(), value, &allowed));
    }

    fn text(&self, schema: &Schema, text: &str, errors: &mut Vec<Error>) {
        let checks = &schema.checks;
        let value = Value::from(text);
        let length = text.chars().count() as u64;
        if let Some(max) = checks.max_length.filter(|max| length > *max) {
            errors.push(Error::too_long(&self.named(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = checks.min_length.filter(|min| length < *min) {
            errors.push(self.invalid(&value, &format!("should be at least {min} chars long")));
        }
        if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            errors.push(self.invalid(&value, &format!("should match '{pattern}'")));
        }
        if !format::fits(&checks.format, text) {
            let format = &checks.format;
            errors.push(self.type_invalid(text, format!("{} in body must be of type {format}: {text:?}", self.path)));
        }
    }

    fn number(&self, schema: &Schema, number: &serde_json::Number, errors: &mut Vec<Error>) {
        let checks = &schema.checks;
        let value = Value::Number(number.clone());
        let Some(float) = number.as_f64() else { return };
        if let Some(factor) = checks.multiple_of.filter(|factor| !is_multiple(float, *factor)) {
            errors.push(self.invalid(&value, &format!("should be a multiple of {factor}")));
        }
        if let Some(max) = checks.maximum {
            if checks.exclusive_maximum && float >= max {
                errors.push(self.invalid(&value, &format!("should be less than {max}")));
            } else if float > max {
                errors.push(self.invalid(&value, &format!("should be less than or equal to {max}")));
            }
        }
        if let Some(min) = checks.minimum {
            if checks.exclusive_minimum && float <= min {
                errors.push(self.invalid(&value, &format!("should be greater than {min}")));
            } else if float < min {
                errors.push(self.invalid(&value, &format!("should be greater than or equal to {min}")));
            }
        }
    }

    fn items(&self, schema: &Schema, items: &[Value], errors: &mut Vec<Error>) {
        let checks = &schema.checks;
        if let Some(inner) = &schema.items {
            let before = Before::new(schema, self.old);
            for (index, item) in items.iter().enumerate() {
                Judge { path: self.path.index(index), old: before.of(item) }.value(inner, item, errors);
            }
        }
        let count = items.len() as u64;
        if let Some(min) = checks.min_items.filter(|min| count < *min) {
            let value = Value::from(items.to_vec());
            errors.push(self.invalid(&value, &format!("should have at least {min} items")));
        }
        if let Some(max) = checks.max_items.filter(|max| count > *max) {
            errors.push(Error::too_many(&self.named(), signed(count), signed(max)));
        }
        if checks.unique_items && items.iter().enumerate().any(|(index, item)| items[..index].contains(item)) {
            let value = Value::from(items.to_vec());
            errors.push(self.invalid(&value, "shouldn't contain duplicates"));
        }
        lists::duplicates(schema, items, &self.named(), errors);
    }

    fn fields(&self, schema: &Schema, fields: &Map<String, Value>, errors: &mut Vec<Error>) {
        let checks = &schema.checks;
        let count = fields.len() as u64;
        for name in checks.required.iter().filter(|name| !fields.contains_key(*name)) {
            errors.push(Error::required(&self.path.child(name), ""));
        }
        for (name, value) in fields {
            let inner = match (schema.properties.get(name), &schema.additional) {
                (Some(inner), _) => inner,
                (None, Some(Additional::Schema(inner))) => inner,
                (None, _) => continue,
            };
            let old = self.old.and_then(|old| old.get(name));
            Judge { path: self.path.child(name), old }.value(inner, value, errors);
        }
        if let Some(min) = checks.min_properties.filter(|min| count < *min) {
            let value = Value::Object(fields.clone());
            errors.push(self.invalid(&value, &format!("should have at least {min} properties")));
        }
        if let Some(max) = checks.max_properties.filter(|max| count > *max) {
            errors.push(Error::too_many(&self.named(), signed(count), signed(max)));
        }
        if schema.embedded {
            self.embedded(fields, errors);
        }
    }

    /// An object inside an object must say what it is.
    fn embedded(&self, fields: &Map<String, Value>, errors: &mut Vec<Error>) {
        for name in ["apiVersion", "kind"] {
            match fields.get(name) {
                None | Some(Value::Null) => errors.push(Error::required(&self.path.child(name), "must not be empty")),
                Some(Value::String(text)) if text.is_empty() => {
                    errors.push(Error::required(&self.path.child(name), "must not be empty"));
                }
                Some(Value::String(_)) => {}
                Some(other) => {
                    errors.push(Error::invalid(&self.path.child(name), type_name(other), "must be a string"));
                }
            }
        }
        if let Some(metadata) = fields.get("metadata").filter(|metadata| !metadata.is_object()) {
            errors.push(Error::invalid(&self.path.child("metadata"), type_name(metadata), "must be an object"));
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn type_fits(schema: &Schema, value: &Value) -> bool {
    if schema.int_or_string {
        return match value {
            Value::Number(number) => is_whole(number),
            Value::String(_) => true,
            _ => false,
        };
    }
    match (schema.kind, value) {
        (Type::Any, _)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_)) => true,
        (Type::Integer, Value::Number(number)) => is_whole(number),
        _ => false,
    }
}

/// What JSON schema calls the type of a value.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
