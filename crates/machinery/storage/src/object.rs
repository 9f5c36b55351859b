//! One version of one object, as the cache holds it and as every reader shares it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::Revision;

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
    pub revision: Revision,
    pub meta: Meta,
    json: Bytes,
    /// Byte offset in `json` at which `"resourceVersion":"N",` (or with the comma in front) goes.
    slot: u32,
}
