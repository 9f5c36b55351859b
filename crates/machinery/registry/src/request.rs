//! What a request brings: who, where, and its options, parsed to types at the edge.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base_meta::selector::{FieldSelector, LabelSelector};
use base_meta::{Gvr, Status};
use bytes::Bytes;

use crate::admission::Writing;

/// Bodies of requests and responses inside the server; streams are cancelled by being dropped.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The authenticated caller (`authentication.k8s.io/v1 UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Everything about a request but its body. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub user: Arc<UserInfo>,
    pub gvr: Gvr,
    pub subresource: Option<Arc<str>>,
    /// Of the path; `None` for cluster-scoped resources and for lists over all namespaces.
    pub namespace: Option<Arc<str>>,
    /// `Warning` headers to send with the answer.
    pub warnings: Warnings,
}

/// What is said of a request while it is served, beside its answer: warnings to the client, of which each is sent once,
/// and annotations to the audit log.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
    /// Those that tell what a request's body does.
    detailed: BTreeMap<String, String>,
}

impl Warnings {
    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn add(&self, message: impl Into<String>) {
        let message = message.into();
        let mut said = self.lock();
        if !said.warnings.contains(&message) {
            said.warnings.push(message);
        }
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().warnings)
    }

    /// Of one key the first counts, as upstream's.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.lock().annotations.entry(key.into()).or_insert_with(|| value.into());
    }

    /// For a record that holds the request's body, too.
    pub fn annotate_detail(&self, key: impl Into<String>, value: impl Into<String>) {
        self.lock().detailed.entry(key.into()).or_insert_with(|| value.into());
    }

    /// `detailed`: with those that are for a record of the request's body.
    pub fn take_annotations(&self, detailed: bool) -> BTreeMap<String, String> {
        let mut said = self.lock();
        let mut all = std::mem::take(&mut said.annotations);
        if detailed {
            all.append(&mut said.detailed);
        }
        all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Yaml,
}

/// An encoded object as it came.
#[derive(Clone, Debug)]
pub struct Payload {
    pub media: MediaType,
    pub bytes: Bytes,
}

/// What to do with unknown and duplicate fields; upstream's default is `Warn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
}

impl CreateOptions {
    /// As admission is told.
    pub fn writing(&self) -> Writing<'_> {
        let (dry_run, validation) = (self.dry_run, self.field_validation);
        Writing { dry_run, manager: self.field_manager.as_deref(), validation }
    }
}

/// Of update and patch alike.
#[derive(Clone, Debug, Default)]
pub struct UpdateOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    /// Server-side apply only.
    pub force: bool,
    /// Why the caller may not create what it updates; `None`: it may.
    pub no_create: Option<Box<Status>>,
}

#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Bytes),
    /// RFC 7386.
    Merge(Bytes),
    Strategic(Bytes),
    /// Server-side apply, JSON or YAML.
    Apply(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Of list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Empty: the latest; `0`: any.
    pub resource_version: String,
    pub version_match: Option<VersionMatch>,
    /// 0: no limit.
    pub limit: usize,
    pub continue_token: String,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout: Option<Duration>,
}
