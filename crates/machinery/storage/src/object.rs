//! One version of one object, as the cache holds it and as every reader shares it.

mod forms;
mod slot;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use crate::Revision;
pub use forms::Forms;
pub use slot::{Malformed, leading_member, metadata_start};

/// What selectors read, extracted once per version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Selectable fields other than `metadata.name` and `metadata.namespace`.
    pub fields: Vec<(&'static str, Arc<str>)>,
}

/// Canonical JSON (keys sorted as k8s-openapi prints them, `metadata.resourceVersion` absent) and where its
/// resourceVersion is to be spliced in at send.
#[derive(Debug)]
pub struct Object {
    pub key: Arc<str>,
    /// 0 (a dry run's) is not shown.
    pub revision: Revision,
    pub meta: Meta,
    json: Bytes,
    /// Byte offset in `json` just after `"metadata":{`.
    slot: u32,
    /// Whether metadata holds nothing else, so that no comma follows the spliced member.
    bare: bool,
    forms: Forms,
}

impl Object {
    /// `json` is one compact JSON object with a `metadata` object in it that has no `resourceVersion`.
    pub fn new(key: Arc<str>, revision: Revision, meta: Meta, json: Bytes) -> Result<Self, Malformed> {
        let slot::Slot { offset, bare } = slot::find(&json)?;
        Ok(Self { key, revision, meta, json, slot: offset, bare, forms: Forms::default() })
    }

    /// The same content as of another revision: what a watcher is sent when an object leaves its selector.
    pub fn at(&self, revision: Revision) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            meta: self.meta.clone(),
            json: self.json.clone(),
            slot: self.slot,
            bare: self.bare,
            forms: Forms::default(),
        }
    }

    /// The stored bytes, without `metadata.resourceVersion`.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON as clients see it, in three pieces of which the first and the last share the stored bytes.
    pub fn segments(&self) -> [Bytes; 3] {
        let slot = self.slot as usize;
        let mut middle = BytesMut::with_capacity(42);
        self.put_member(&mut middle);
        [self.json.slice(..slot), middle.freeze(), self.json.slice(slot..)]
    }

    /// Appends the JSON as clients see it.
    pub fn write_json(&self, out: &mut BytesMut) {
        let (head, tail) = self.json.split_at(self.slot as usize);
        out.reserve(self.json.len() + 42);
        out.put_slice(head);
        self.put_member(out);
        out.put_slice(tail);
    }

    /// The object as clients see it, decoded.
    pub fn to_value(&self) -> serde_json::Result<Value> {
        let mut value: Value = serde_json::from_slice(&self.json)?;
        if self.revision != Revision::default()
            && let Some(Value::Object(metadata)) = value.get_mut("metadata")
        {
            metadata.insert("resourceVersion".into(), Value::String(self.revision.to_string()));
        }
        Ok(value)
    }

    /// Another representation of this version (a Table row, a watch frame), made at first request.
    pub fn form<T: Send + Sync + 'static>(&self, key: &'static str, make: impl FnOnce() -> T) -> Arc<T> {
        self.forms.get(key, make)
    }

    /// As [`Self::form`]; a failure is returned and not kept.
    pub fn try_form<T: Send + Sync + 'static, E>(
        &self,
        key: &'static str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        self.forms.try_get(key, make)
    }

    fn put_member(&self, out: &mut BytesMut) {
        use std::fmt::Write as _;
        if self.revision == Revision::default() {
            return;
        }
        let comma = if self.bare { "" } else { "," };
        // Writing to a growing buffer does not fail.
        let _ = write!(out, "\"resourceVersion\":\"{}\"{comma}", self.revision);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn object(json: &'static str) -> Object {
        Object::new("/k".into(), Revision(42), Meta::default(), Bytes::from_static(json.as_bytes())).unwrap()
    }

    #[test]
    fn the_resource_version_is_spliced_into_metadata() {
        let object = object(r#"{"kind":"ConfigMap","metadata":{"name":"a"},"data":{"metadata":"{"}}"#);
        let expected = r#"{"kind":"ConfigMap","metadata":{"resourceVersion":"42","name":"a"},"data":{"metadata":"{"}}"#;
        let mut out = BytesMut::new();
        object.write_json(&mut out);
        assert_eq!(out, expected);
        assert_eq!(object.segments().concat(), expected.as_bytes());
        assert_eq!(object.to_value().unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn what_was_never_stored_has_no_version() {
        let object = object(r#"{"metadata":{"name":"a"}}"#).at(Revision::default());
        let mut out = BytesMut::new();
        object.write_json(&mut out);
        assert_eq!(out, r#"{"metadata":{"name":"a"}}"#);
        assert!(object.to_value().unwrap()["metadata"]["resourceVersion"].is_null());
    }

    #[test]
    fn empty_metadata_takes_no_comma() {
        let mut out = BytesMut::new();
        object(r#"{"metadata":{}}"#).write_json(&mut out);
        assert_eq!(out, r#"{"metadata":{"resourceVersion":"42"}}"#);
    }

    #[test]
    fn a_form_is_made_once_per_version() {
        let object = object(r#"{"metadata":{}}"#);
        let first = object.form("row", || 1u32);
        assert!(Arc::ptr_eq(&first, &object.form("row", || 2u32)));
        assert_eq!(object.try_form::<u32, _>("other", || Err("no")), Err("no"));
        assert_eq!(*object.form("other", || 3u32), 3);
        assert_eq!(*object.at(Revision(43)).form("row", || 4u32), 4);
    }
}
