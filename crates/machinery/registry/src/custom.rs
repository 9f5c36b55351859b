//! Kinds defined at run time: their objects, and what their own schema is asked for.
//!
//! A custom kind is a [`Strategy`](crate::Strategy) over [`Custom`] whose `custom_schema` is some. Its
//! `ResourceDef::schema` is then only that of `apiVersion`, `kind` and `metadata`: a type of the built-in table with
//! those three fields, without protobuf numbers. Everything else of a body is left to the [`CustomSchema`].

use std::fmt::Debug;

use base_meta::decode_value;
use base_meta::field::Error;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::object::ApiObject;

/// An object of a kind defined at run time: typed metadata, and the rest as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Custom {
    pub api_version: String,
    pub kind: String,
    pub metadata: ObjectMeta,
    /// Every other member: `spec`, `status`, whatever the schema knows.
    pub content: Map<String, Value>,
}

impl ApiObject for Custom {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn of_value(value: Value) -> serde_json::Result<Self> {
        serde_json::from_value(value)
    }
}

impl Serialize for Custom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.content.len() + 3))?;
        map.serialize_entry("apiVersion", &self.api_version)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("metadata", &self.metadata)?;
        for (name, value) in &self.content {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Custom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut content = Map::deserialize(deserializer)?;
        let mut text = |name: &str| match content.remove(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(D::Error::custom(format_args!("{name} is not a string"))),
        };
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        let metadata = match content.remove("metadata") {
            None | Some(Value::Null) => ObjectMeta::default(),
            Some(metadata) => decode_value(&metadata).map_err(D::Error::custom)?,
        };
        Ok(Self { api_version, kind, metadata, content })
    }
}

/// One step from an object to a value inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A field, or a key of a map.
    Field(&'a str),
    /// Any element of a list.
    Element,
}

/// How server-side apply merges what stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One value, whatever is inside: a scalar, an atomic list, an atomic map.
    Atomic,
    /// A structure or map whose members have owners of their own.
    Granular,
    /// A list of values that each have an owner.
    Set,
    /// A list of structures told apart by these fields; the second is a field's declared default.
    Map(Vec<(String, Option<Value>)>),
}

/// What a kind defined at run time says of its objects in one version. `metadata` is not its business: the registry
/// decodes that as every kind's.
pub trait CustomSchema: Debug + Send + Sync + 'static {
    /// Takes out what the schema does not know, and names it (`spec.foo`, `spec.items[0].bar`): the fields that
    /// `fieldValidation` fails, warns of or ignores.
    fn prune(&self, object: &mut Value) -> Vec<String>;

    /// Fills in declared defaults. The registry calls it for other versions than the stored one, whose strategy does
    /// so in [`Strategy::default`](crate::Strategy::default).
    fn default(&self, object: &mut Value);

    /// Whether [`Self::default`] ever changes anything: stored objects of a kind that has none are not decoded to be read.
    fn has_defaults(&self) -> bool;

    /// What is wrong with an object, `old` as it was before. The registry asks it of other versions than the stored one,
    /// whose strategy does so in [`Strategy::validate`](crate::Strategy::validate).
    fn validate(&self, _object: &Value, _old: Option<&Value>) -> Vec<Error> {
        Vec::new()
    }

    /// Of the value that `path` leads to; the empty path is the object.
    fn topology(&self, path: &[Step<'_>]) -> Topology;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_round_trips() {
        let value = json!({
            "apiVersion": "example.io/v1", "kind": "Gizmo", "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"nested": [1, null, {"a": "b"}]}, "status": {},
        });
        let custom: Custom = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(custom.metadata.name.as_deref(), Some("a"));
        assert_eq!(custom.content.len(), 2);
        assert_eq!(serde_json::to_value(&custom).unwrap(), value);
        assert_eq!(serde_json::from_slice::<Custom>(value.to_string().as_bytes()).unwrap(), custom);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [json!([]), json!({"kind": 1}), json!({"metadata": {"labels": 1}}), json!({"metadata": "x"})] {
            assert!(serde_json::from_value::<Custom>(bad).is_err());
        }
    }
}
