//! Objects that stay text until whoever follows them decodes them, so that the client's watch is compiled once and
//! not for every kind.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// Of its metadata the place and the version are read, no more. In a watch's frame the type comes first, as every API
/// server writes it: what serde has to set aside until it knows the type is not text any more.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    metadata: ObjectMeta,
    pub(crate) text: Box<RawValue>,
}

#[derive(Deserialize)]
struct Head {
    metadata: Known,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let Head { metadata } = serde_json::from_str(text.get()).map_err(de::Error::custom)?;
        let Known { name, namespace, resource_version } = metadata;
        Ok(Self { metadata: ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() }, text })
    }
}

impl kube::Resource for Raw {
    /// The path of the list.
    type DynamicType = String;
    type Scope = DynamicResourceScope;

    fn url_path(path: &String, _: Option<&str>) -> String {
        path.clone()
    }

    fn kind(_: &String) -> Cow<'_, str> {
        "".into()
    }

    fn group(_: &String) -> Cow<'_, str> {
        "".into()
    }

    fn version(_: &String) -> Cow<'_, str> {
        "".into()
    }

    fn plural(_: &String) -> Cow<'_, str> {
        "".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
