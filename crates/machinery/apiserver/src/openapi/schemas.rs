//! The schema table as OpenAPI definitions: every type that an operation reaches, with its list and merge keys.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::Gvk;
use base_meta::schema::{Field, ListType, MapType, SchemaRef, Shape, Table, TypeId};
use machinery_registry::Published;
use serde_json::{Map, Value, json};

use super::prose;
use crate::definitions;

/// How a reference is spelt; the schemas are otherwise the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    pub(super) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }
}

/// Types that are no structures in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Special {
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    FieldsV1,
    RawExtension,
    Patch,
}

impl Special {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
            Self::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            Self::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            Self::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            Self::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
            Self::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            Self::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension",
            Self::Patch => "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
        }
    }

    fn schema(self, dialect: Dialect) -> Value {
        match (self, dialect) {
            // Version 2 has no alternatives; a client reads the format.
            (Self::Quantity, Dialect::V3) => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
            (Self::IntOrString, Dialect::V3) => {
                json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
            }
            (Self::IntOrString, Dialect::V2) => json!({ "type": "string", "format": "int-or-string" }),
            (Self::Quantity, Dialect::V2) | (Self::Duration, _) => json!({ "type": "string" }),
            (Self::Time | Self::MicroTime, _) => json!({ "type": "string", "format": "date-time" }),
            (Self::FieldsV1 | Self::RawExtension | Self::Patch, _) => json!({ "type": "object" }),
        }
    }
}

/// A field of a type that Go encodes by methods of its own, with the definition it is in.
#[derive(Clone, Copy)]
struct Any {
    owner: &'static str,
    go: &'static str,
}

impl Any {
    /// `[]v1.JSON` in a type of the same package is the package's `JSON`.
    fn definition(self) -> String {
        let package = self.owner.rsplit_once('.').map_or(self.owner, |(package, _)| package);
        let name = self.go.rsplit('.').next().unwrap_or(self.go);
        // A map's type has a name of its own.
        let name = if name == "JSONSchemaDependencies" { "JSONSchemaPropsOrStringArray" } else { name };
        format!("{package}.{name}")
    }
}

type Kinds = BTreeSet<(String, String, String)>;

/// Gathers what is referred to, each definition once.
pub(super) struct Collector {
    dialect: Dialect,
    schemas: Map<String, Value>,
    specials: BTreeSet<Special>,
    kinds: BTreeMap<String, Kinds>,
    prose: &'static [u8],
}

impl Collector {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, schemas: Map::new(), specials: BTreeSet::new(), kinds: BTreeMap::new(), prose: &[] }
    }

    /// A reference to the type; it and all it reaches will be defined.
    pub(super) fn reference(&mut self, schema: SchemaRef) -> Value {
        let SchemaRef { table, root } = schema;
        // One text serves all the tables there are.
        self.prose = table.prose;
        let name = table.get(root).name;
        if !self.schemas.contains_key(name) {
            // Held before it is walked: types refer to themselves (JSONSchemaProps).
            self.schemas.insert(name.to_owned(), Value::Null);
            let schema = self.object(table, root);
            self.schemas.insert(name.to_owned(), schema);
        }
        self.dialect.reference(name)
    }

    pub(super) fn special(&mut self, special: Special) -> Value {
        self.specials.insert(special);
        self.dialect.reference(special.name())
    }

    /// By definition name, where the table has it.
    pub(super) fn named(&mut self, table: &'static Table, name: &str) -> Option<Value> {
        definitions::by_name(table, name).map(|schema| self.reference(schema))
    }

    /// Says which kind a definition is.
    pub(super) fn kind(&mut self, name: &str, gvk: &Gvk) {
        let kind = (gvk.group.to_string(), gvk.version.to_string(), gvk.kind.to_string());
        self.kinds.entry(name.to_owned()).or_default().insert(kind);
    }

    /// Of a definition that is there already.
    pub(super) fn require(&mut self, name: &str, fields: &[&str]) {
        if let Some(schema) = self.schemas.get_mut(name) {
            schema["required"] = json!(fields);
        }
    }

    pub(super) fn define(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.insert(name.to_owned(), schema);
        self.dialect.reference(name)
    }

    /// A kind that brings its definition.
    pub(super) fn published(&mut self, name: &str, published: &Published) -> Value {
        let schema = if self.dialect == Dialect::V2 { &published.v2 } else { &published.v3 };
        self.define(name, schema.clone())
    }

    pub(super) fn finish(mut self) -> Map<String, Value> {
        for special in &self.specials {
            self.schemas.insert(special.name().to_owned(), special.schema(self.dialect));
        }
        for (name, kinds) in self.kinds {
            let Some(Value::Object(schema)) = self.schemas.get_mut(&name) else { continue };
            let kinds = kinds
                .into_iter()
                .map(|(group, version, kind)| json!({ "group": group, "version": version, "kind": kind }));
            schema.insert("x-kubernetes-group-version-kind".into(), kinds.collect());
        }
        prose::describe(self.prose, &mut self.schemas);
        self.schemas
    }

    fn object(&mut self, table: &'static Table, id: TypeId) -> Value {
        let this = table.get(id);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in this.fields {
            properties.insert(field.name.to_owned(), self.field(table, this.name, field));
            if field.required {
                required.push(field.name);
            }
        }
        let mut schema = json!({ "type": "object" });
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if this.atomic_map {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        schema
    }

    fn field(&mut self, table: &'static Table, owner: &'static str, field: &Field) -> Value {
        let any = field.go_type.map(|go| Any { owner, go });
        let mut schema = self.shape(table, field.shape, any);
        if self.dialect == Dialect::V3 {
            // Version 2 has neither, as upstream's: its clients check fields on their own side by it.
            self.value_facts(field, &mut schema);
        }
        if let Some(list_type) = field.list_type {
            schema["x-kubernetes-list-type"] = json!(match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            });
        }
        if !field.list_map_keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = json!(field.list_map_keys);
        }
        if let Some(map_type) = field.map_type {
            schema["x-kubernetes-map-type"] = json!(match map_type {
                MapType::Atomic => "atomic",
                MapType::Granular => "granular",
            });
        }
        if let Some(key) = field.patch_merge_key {
            schema["x-kubernetes-patch-merge-key"] = json!(key);
        }
        let strategy = field.patch_strategy;
        let words = [(strategy.merge, "merge"), (strategy.replace, "replace"), (strategy.retain_keys, "retainKeys")];
        let words: Vec<&str> = words.into_iter().filter_map(|(set, word)| set.then_some(word)).collect();
        if !words.is_empty() {
            schema["x-kubernetes-patch-strategy"] = json!(words.join(","));
        }
        schema
    }

    fn value_facts(&self, field: &Field, schema: &mut Value) {
        if let Some(default) = field.default.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            schema["default"] = default;
        } else if !field.pointer && matches!(field.shape, Shape::Object(_)) {
            // A structure Go holds by value is never absent.
            schema["default"] = json!({});
        }
        if !field.enum_values.is_empty() {
            let mut values = field.enum_values.to_vec();
            values.sort_unstable();
            let holder = if matches!(field.shape, Shape::List(_)) { &mut schema["items"] } else { schema };
            holder["enum"] = json!(values);
        }
    }

    fn shape(&mut self, table: &'static Table, shape: Shape, any: Option<Any>) -> Value {
        let special = match shape {
            Shape::String => return json!({ "type": "string" }),
            Shape::Bytes => return json!({ "type": "string", "format": "byte" }),
            Shape::Bool => return json!({ "type": "boolean" }),
            Shape::Int(bits) => {
                return json!({ "type": "integer", "format": if bits > 32 { "int64" } else { "int32" } });
            }
            Shape::Float => return json!({ "type": "number", "format": "double" }),
            Shape::Any => {
                let reference = match any.map(Any::definition) {
                    None => self.special(Special::RawExtension),
                    Some(name) if name == Special::FieldsV1.name() => self.special(Special::FieldsV1),
                    // Whatever JSON holds.
                    Some(name) => self.define(&name, json!({})),
                };
                return self.wrapped(reference);
            }
            Shape::List(element) => {
                let items = self.element(table, table.nested(element), any);
                return json!({ "type": "array", "items": items });
            }
            Shape::Map(value) => {
                let values = self.element(table, table.nested(value), any);
                return json!({ "type": "object", "additionalProperties": values });
            }
            Shape::Object(id) => {
                let reference = self.reference(SchemaRef { table, root: id });
                return self.wrapped(reference);
            }
            Shape::Quantity => Special::Quantity,
            Shape::IntOrString => Special::IntOrString,
            Shape::Time => Special::Time,
            Shape::MicroTime => Special::MicroTime,
            Shape::Duration => Special::Duration,
        };
        let reference = self.special(special);
        self.wrapped(reference)
    }

    /// Of a list or map: Go's elements are never absent, so version 3 gives them their zero value.
    fn element(&mut self, table: &'static Table, shape: Shape, any: Option<Any>) -> Value {
        let mut schema = self.shape(table, shape, any);
        if self.dialect == Dialect::V3 {
            let zero = match shape {
                Shape::String => json!(""),
                Shape::Object(_) => json!({}),
                Shape::Int(_) | Shape::Float => json!(0),
                Shape::Bool => json!(false),
                _ => return schema,
            };
            schema["default"] = zero;
        }
        schema
    }

    /// Version 3 forbids siblings of `$ref`, so the reference is one of one; in version 2 siblings are usual.
    fn wrapped(&self, reference: Value) -> Value {
        match self.dialect {
            Dialect::V2 => reference,
            Dialect::V3 => json!({ "allOf": [reference] }),
        }
    }
}
