//! Filling in what a schema's `default`s say.

use serde_json::Value;

use crate::schema::{Additional, Schema};

impl Schema {
    /// Adds the defaults of absent fields, and of nulls where null is not a value; other such nulls are removed.
    pub fn apply_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else { continue };
                    if fields.get(name).is_none_or(|value| schema.refuses_null(value)) {
                        fields.insert(name.clone(), default.clone());
                    }
                }
                fields.retain(|name, value| match self.schema_of(name) {
                    Some(schema) => schema.fill(value),
                    None => true,
                });
            }
            Value::Array(items) => {
                let Some(schema) = self.items.as_deref() else { return };
                for item in items {
                    // A null item keeps its place: removing it would renumber the others.
                    schema.fill(item);
                }
            }
            _ => {}
        }
    }

    /// Whether any node says one.
    pub fn has_defaults(&self) -> bool {
        let additional = match &self.additional {
            Some(Additional::Schema(schema)) => Some(&**schema),
            _ => None,
        };
        let below = self.properties.values().chain(additional).chain(self.items.as_deref());
        self.default.is_some() || below.into_iter().any(Self::has_defaults)
    }

    fn schema_of(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Some(Additional::Schema(schema))) => Some(schema),
            _ => None,
        }
    }

    fn refuses_null(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }

    /// Whether the value stays.
    fn fill(&self, value: &mut Value) -> bool {
        if self.refuses_null(value) {
            match &self.default {
                Some(default) => *value = default.clone(),
                // Without a type null is a value like any other.
                None if matches!(self.kind, crate::Type::Any) && !self.int_or_string => return true,
                None => return false,
            }
        }
        self.apply_defaults(value);
        true
    }
}
