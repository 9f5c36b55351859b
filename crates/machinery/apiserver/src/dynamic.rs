//! What comes and goes while the server runs: custom resources, and groups that other servers answer for.
//!
//! ```text
//!  CRD controller ── set_resources(group, …) ──┐                      ┌─▶ routes     a removed resource: 404, its watches end
//!  APIService controller ─ set_delegated(…) ───┴─▶ Served, replaced ──┼─▶ discovery  encoded anew, other entity tags
//!                                                  as one             └─▶ OpenAPI    only that group's document is made anew
//! ```
//! A request sees one set from its beginning to its end.

use std::sync::Arc;

use base_meta::Status;
use machinery_registry::{Body, Resource, UserInfo};
use serde_json::Value;

use crate::ApiServer;

/// Who answers for a group and version in this process's place: an aggregated API server.
#[async_trait::async_trait]
pub trait Delegate: Send + Sync + 'static {
    /// The whole request below `/apis/GROUP/VERSION` (or `/openapi/v3/apis/GROUP/VERSION`): authenticated and
    /// authorized, headers, query and upgrade as they came.
    async fn serve(&self, user: Arc<UserInfo>, request: http::Request<Body>) -> Result<http::Response<Body>, Status>;
}

/// One group and version that a [`Delegate`] answers for.
#[derive(Clone)]
pub struct Delegated {
    pub version: String,
    /// `spec.groupPriorityMinimum`; the highest of a group's versions counts. Custom resources have 1,000.
    pub group_priority: i32,
    /// `spec.versionPriority`: higher is preferred.
    pub version_priority: i32,
    pub delegate: Arc<dyn Delegate>,
    /// The `resources` of this version in aggregated discovery (a list of `apidiscovery.k8s.io/v2 APIResourceDiscovery`),
    /// as its server told them last.
    pub resources: Value,
    /// The server could not be asked of late.
    pub stale: bool,
    /// The hash of its OpenAPI v3 document; `None`: the index leaves it out.
    pub openapi_hash: Option<String>,
    /// Its OpenAPI v2 document, of which the paths of this version are shown beside this server's own.
    pub openapi_v2: Option<Arc<Value>>,
}

impl ApiServer {
    /// Replaces every dynamic resource of `group` (one per plural and version, preferred versions found by name);
    /// an empty list removes them. A built-in resource of the same name stays as it is.
    ///
    /// Watches of a resource that is no longer there, or is there as another object, end; those of a resource that is
    /// the same `Arc` as before go on.
    pub fn set_resources(&self, group: &str, resources: Vec<Arc<dyn Resource>>) {
        self.inner.change(
            |dynamic| match resources.is_empty() {
                true => drop(dynamic.resources.remove(group)),
                false => drop(dynamic.resources.insert(group.to_owned(), resources)),
            },
            group,
        );
    }

    /// Replaces the versions of `group` that others answer for; an empty list removes them. Resources of this server's
    /// own in such a version are not served until it is removed again.
    pub fn set_delegated(&self, group: &str, versions: Vec<Delegated>) {
        self.inner.change(
            |dynamic| match versions.is_empty() {
                true => drop(dynamic.delegated.remove(group)),
                false => drop(dynamic.delegated.insert(group.to_owned(), versions)),
            },
            group,
        );
    }
}
