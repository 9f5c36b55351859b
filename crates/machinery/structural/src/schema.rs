//! The schema as it is used: one node per value of an object.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// None said: any value.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    /// As JSON schema writes it; nothing for any.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `x-kubernetes-list-type`: what makes two items of a list the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    /// Each value once.
    Set,
    /// Objects, told apart by these keys.
    Map(Vec<String>),
}

/// `additionalProperties`.
#[derive(Clone, Debug)]
pub enum Additional {
    Any(bool),
    Schema(Box<Schema>),
}

/// One of `x-kubernetes-validations`, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    /// `FieldValueInvalid` and its like; empty for the default.
    pub reason: String,
    /// Below the rule's own value: `.spec.size`.
    pub field_path: String,
    /// The rule runs also when there is no old value, which is then an optional.
    pub optional_old_self: Option<bool>,
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub format: String,
    pub pattern: Option<Regex>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub required: Vec<String>,
    pub enumeration: Vec<Value>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
}

#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub kind: Type,
    pub nullable: bool,
    /// An integer or a string, whatever `type` says.
    pub int_or_string: bool,
    /// A whole object with apiVersion, kind and metadata, which pruning leaves alone.
    pub embedded: bool,
    pub preserve_unknown: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub list: ListType,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    pub checks: Checks,
    pub rules: Vec<Rule>,
}

impl Schema {
    /// The schema of a field or map entry, if it says anything about it.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }

    /// Whether any node carries validation rules; most schemas have none.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.properties.values().any(Self::has_rules)
            || self.items.as_deref().is_some_and(Self::has_rules)
            || matches!(&self.additional, Some(Additional::Schema(schema)) if schema.has_rules())
    }
}
