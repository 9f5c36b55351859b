//! Between stored bytes and typed objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_meta::schema;
use base_meta::{Status, field};
use bytes::Bytes;
use k8s_openapi::Metadata as _;
use machinery_storage::cache::Extract;
use machinery_storage::{Meta, Object, Revision};
use serde::Deserialize;
use serde_json::Value;

use crate::{Registry, ResourceDef, Strategy};

/// One stored version, decoded and defaulted; `typed` carries its resourceVersion.
pub(crate) struct Stored<T> {
    pub(crate) object: Arc<Object>,
    pub(crate) typed: T,
}

/// What the cache reads from every object it takes in. Kinds without selectable fields are not typed for it.
pub(crate) fn extractor<S: Strategy>(strategy: Arc<S>, def: &ResourceDef) -> Arc<Extract> {
    #[derive(Deserialize)]
    struct Head {
        metadata: HeadMeta,
    }
    #[derive(Deserialize)]
    struct HeadMeta {
        name: Arc<str>,
        namespace: Option<Arc<str>>,
        #[serde(default)]
        uid: Option<Arc<str>>,
        #[serde(default)]
        labels: Option<BTreeMap<Arc<str>, Arc<str>>>,
    }
    let selectable = !def.fields.is_empty();
    Arc::new(move |json| {
        if selectable {
            let mut object: S::Object = serde_json::from_slice(json)?;
            strategy.default(&mut object);
            return Ok(meta(&*strategy, &object));
        }
        let Head { metadata } = serde_json::from_slice(json)?;
        Ok(Meta {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            fields: Vec::new(),
        })
    })
}

fn meta<S: Strategy>(strategy: &S, object: &S::Object) -> Meta {
    let metadata = object.metadata();
    let labels = metadata.labels.iter().flatten();
    Meta {
        namespace: metadata.namespace.as_deref().map(Arc::from),
        name: metadata.name.as_deref().unwrap_or_default().into(),
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        fields: strategy.selectable(object).into_iter().map(|(field, value)| (field, value.into())).collect(),
    }
}

impl<S: Strategy> Registry<S> {
    pub(crate) fn typed(&self, object: &Object) -> Result<S::Object, Status> {
        let mut typed: S::Object = serde_json::from_slice(object.json()).map_err(|error| {
            tracing::error!(key = &*object.key, %error, "a stored object cannot be decoded");
            Status::internal(format!("unable to decode {} {:?}", self.def.gvk.kind, object.meta.name))
        })?;
        self.strategy.default(&mut typed);
        typed.metadata_mut().resource_version = Some(object.revision.to_string());
        Ok(typed)
    }

    /// `value` is already known to follow the schema; what serde still refuses is the server's own gap.
    pub(crate) fn typed_value(&self, value: Value) -> Result<S::Object, Status> {
        let mut typed: S::Object = serde_json::from_value(value).map_err(|error| {
            let (version, kind) = (&self.def.gvk.version, &self.def.gvk.kind);
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
        })?;
        self.strategy.default(&mut typed);
        Ok(typed)
    }

    /// As Go's round trip leaves it, with resourceVersion and the fields nobody stores taken out.
    pub(crate) fn canonical(&self, object: &S::Object) -> Result<Value, Status> {
        let mut value = plain(object)?;
        schema::normalise(self.def.schema, &mut value);
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            for transient in ["resourceVersion", "selfLink", "managedFields"] {
                metadata.remove(transient);
            }
        }
        Ok(value)
    }

    pub(crate) fn object(
        &self,
        key: &str,
        revision: Revision,
        json: Bytes,
        typed: &S::Object,
    ) -> Result<Arc<Object>, Status> {
        let object = Object::new(key.into(), revision, meta(&*self.strategy, typed), json);
        object.map(Arc::new).map_err(Status::internal)
    }

    pub(crate) fn invalid(&self, name: &str, errors: &[field::Error]) -> Result<(), Status> {
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&self.def.gvk, name, errors)) }
    }
}

pub(crate) fn plain<T: serde::Serialize>(object: &T) -> Result<Value, Status> {
    serde_json::to_value(object).map_err(Status::internal)
}

pub(crate) fn bytes(value: &Value) -> Result<Bytes, Status> {
    serde_json::to_vec(value).map(Bytes::from).map_err(Status::internal)
}
