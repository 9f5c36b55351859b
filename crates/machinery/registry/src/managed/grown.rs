//! The schema of a kind defined at run time, as far as some of its objects reach.

use std::collections::BTreeMap;

use base_meta::schema::SchemaRef;
use serde_json::Value;

use super::place::{Node, NodeKind, Place};
use crate::custom::{CustomSchema, Step, Topology};

/// One place of it, and those below that some object has.
pub struct Grown {
    topology: Topology,
    /// The fields that tell items apart, as [`Node`] gives them.
    keys: Vec<String>,
    default: Option<Value>,
    fields: BTreeMap<String, Grown>,
    element: Option<Box<Grown>>,
    /// Of the outermost: what every kind has is in the table.
    common: Option<SchemaRef>,
}

impl Grown {
    /// `common` knows `apiVersion`, `kind` and `metadata`.
    pub fn new(schema: &dyn CustomSchema, common: SchemaRef, objects: &[&Value]) -> Self {
        Self { common: Some(common), ..Self::grow(schema, &mut Vec::new(), objects) }
    }

    fn grow<'v>(schema: &dyn CustomSchema, path: &mut Vec<Step<'v>>, values: &[&'v Value]) -> Self {
        let topology = schema.topology(path);
        let keys = match &topology {
            Topology::Map(keys) => keys.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        };
        let mut grown = Self { topology, keys, default: None, fields: BTreeMap::new(), element: None, common: None };
        match &grown.topology {
            Topology::Atomic => {}
            Topology::Granular => {
                let mut names: BTreeMap<&'v str, Vec<&'v Value>> = BTreeMap::new();
                for (name, value) in values.iter().filter_map(|value| value.as_object()).flatten() {
                    names.entry(name).or_default().push(value);
                }
                for (name, values) in names {
                    path.push(Step::Field(name));
                    grown.fields.insert(name.to_owned(), Self::grow(schema, path, &values));
                    path.pop();
                }
            }
            Topology::Set | Topology::Map(_) => {
                let items: Vec<_> = values.iter().filter_map(|value| value.as_array()).flatten().collect();
                path.push(Step::Element);
                let mut element = Self::grow(schema, path, &items);
                path.pop();
                if let Topology::Map(keys) = &grown.topology {
                    for (name, default) in keys.iter().filter(|(_, default)| default.is_some()) {
                        let bare = || Self { default: None, ..Self::leaf() };
                        element.fields.entry(name.clone()).or_insert_with(bare).default.clone_from(default);
                    }
                }
                grown.element = Some(Box::new(element));
            }
        }
        grown
    }

    fn leaf() -> Self {
        Self {
            topology: Topology::Atomic,
            keys: Vec::new(),
            default: None,
            fields: BTreeMap::new(),
            element: None,
            common: None,
        }
    }
}

impl Node for Grown {
    fn kind(&self) -> NodeKind<'_> {
        match self.topology {
            Topology::Atomic => NodeKind::Atomic,
            Topology::Granular => NodeKind::Map,
            Topology::Set => NodeKind::Set,
            Topology::Map(_) => NodeKind::Keyed(&self.keys),
        }
    }

    fn field(&self, name: &str) -> Option<Place<'_>> {
        let common = self.common.and_then(|common| Place::from(common).entry(name));
        common.map(|(place, _)| place).or_else(|| self.fields.get(name).map(|grown| Place::Run(grown)))
    }

    fn element(&self) -> Option<Place<'_>> {
        self.element.as_deref().map(|grown| Place::Run(grown))
    }

    fn default(&self) -> Option<&Value> {
        self.default.as_ref()
    }
}
