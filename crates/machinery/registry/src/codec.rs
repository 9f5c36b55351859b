//! Between stored bytes and typed objects.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base_meta::{Status, field, schema};
use bytes::Bytes;
use machinery_storage::cache::Extract;
use machinery_storage::{Meta, Object, Revision};
use serde::Deserialize;
use serde_json::Value;

use crate::ResourceDef;
use crate::core::Core;
use crate::custom::CustomSchema;
use crate::kind::Kind;
use crate::managed::{Ledger, cut, encode};
use crate::object::Erased;
use crate::pending::Pending;

/// One stored version, decoded and defaulted; `typed` carries its resourceVersion. What else a write needs of it is
/// made when it is first asked for.
pub(crate) struct Stored {
    pub(crate) object: Arc<Object>,
    pub(crate) typed: Box<dyn Erased>,
    value: OnceLock<Value>,
}

impl Stored {
    pub(crate) fn new(object: Arc<Object>, typed: Box<dyn Erased>) -> Self {
        Self { object, typed, value: OnceLock::new() }
    }

    /// Who owns its fields. One that cannot be read is as good as none, as upstream's.
    pub(crate) fn ledger(&self) -> Ledger {
        let text = cut(self.object.json()).1;
        text.and_then(|text| Ledger::parse(text).ok()).unwrap_or_default()
    }
}

/// What the cache reads from every object it takes in. Kinds without selectable fields are not typed for it; of a kind
/// defined at run time, `custom` fills in what its definition has come to say since the object was stored.
pub(crate) fn extractor(
    kind: Arc<dyn Kind>,
    def: &ResourceDef,
    pending: Arc<Pending>,
    custom: Option<Arc<dyn CustomSchema>>,
) -> Arc<Extract> {
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
    let custom = custom.filter(|schema| schema.has_defaults());
    Arc::new(move |json| {
        if let Some(meta) = pending.take(json) {
            return Ok((meta, json.clone()));
        }
        let json = match &custom {
            Some(schema) => filled(&**schema, json)?,
            None => json.clone(),
        };
        if selectable {
            return Ok((meta(&*kind, &*kind.decode(&cut(&json).0)?), json));
        }
        let Head { metadata } = serde_json::from_slice(&json)?;
        let meta = Meta {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            fields: Vec::new(),
        };
        Ok((meta, json))
    })
}

fn filled(schema: &dyn CustomSchema, json: &Bytes) -> serde_json::Result<Bytes> {
    let mut value: Value = serde_json::from_slice(json)?;
    schema.default(&mut value);
    let filled = encode(&value)?;
    Ok(if filled == *json { json.clone() } else { filled.into() })
}

pub(crate) fn meta(kind: &dyn Kind, object: &dyn Erased) -> Meta {
    let metadata = object.metadata();
    let labels = metadata.labels.iter().flatten();
    Meta {
        namespace: metadata.namespace.as_deref().map(Arc::from),
        name: metadata.name.as_deref().unwrap_or_default().into(),
        uid: metadata.uid.as_deref().unwrap_or_default().into(),
        labels: labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
        fields: kind.selectable(object).into_iter().map(|(field, value)| (field, value.into())).collect(),
    }
}

impl Core {
    pub(crate) fn typed(&self, object: &Object) -> Result<Box<dyn Erased>, Status> {
        let mut typed = self.kind.decode(&cut(object.json()).0).map_err(|error| {
            tracing::error!(key = &*object.key, %error, "a stored object cannot be decoded");
            Status::internal(format!("unable to decode {} {:?}", self.def().gvk.kind, object.meta.name))
        })?;
        typed.metadata_mut().resource_version = Some(object.revision.to_string());
        Ok(typed)
    }

    /// `value` is already known to follow the schema; what serde still refuses is the server's own gap.
    pub(crate) fn typed_value(&self, value: Value) -> Result<Box<dyn Erased>, Status> {
        self.kind.take(value).map_err(|error| {
            let (version, kind) = (&self.def().gvk.version, &self.def().gvk.kind);
            Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
        })
    }

    /// As Go's round trip leaves it, with resourceVersion and the fields nobody stores taken out.
    pub(crate) fn canonical(&self, object: &dyn Erased) -> Result<Value, Status> {
        let mut value = plain(object)?;
        schema::normalise(self.def().schema, &mut value);
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            for transient in ["resourceVersion", "selfLink", "managedFields"] {
                metadata.remove(transient);
            }
        }
        Ok(value)
    }

    /// The stored object as a write of it now would leave it: an older binary may have stored another form.
    pub(crate) fn value_of<'a>(&self, stored: &'a Stored) -> Result<&'a Value, Status> {
        if let Some(value) = stored.value.get() {
            return Ok(value);
        }
        let mut value = plain(&*stored.typed)?;
        schema::normalise(self.def().schema, &mut value);
        Ok(stored.value.get_or_init(|| value))
    }

    /// One that is not stored, or not by this: a dry run's.
    pub(crate) fn object(
        &self,
        key: &str,
        revision: Revision,
        json: Bytes,
        typed: &dyn Erased,
    ) -> Result<Arc<Object>, Status> {
        let object = Object::new(key.into(), revision, meta(&*self.kind, typed), json);
        object.map(Arc::new).map_err(Status::internal)
    }

    pub(crate) fn invalid(&self, name: &str, errors: &[field::Error]) -> Result<(), Status> {
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&self.def().gvk, name, errors)) }
    }
}

pub(crate) fn plain(object: &dyn Erased) -> Result<Value, Status> {
    object.to_value().map_err(Status::internal)
}

pub(crate) fn bytes(value: &Value) -> Result<Bytes, Status> {
    encode(value).map(Bytes::from).map_err(Status::internal)
}
