//! Reads that plug-ins make of other kinds, bound late.

use std::sync::{Arc, OnceLock};

use base_meta::{Gvr, Status};
use machinery_registry::{RequestContext, Resource, UserInfo};
use serde_json::Value;

/// The resources that plug-ins read, by their plural name in the core group.
#[derive(Default)]
pub struct Lookup {
    resources: OnceLock<Vec<Arc<dyn Resource>>>,
}

impl Lookup {
    /// Called once, when the resources have been made.
    pub fn bind(&self, resources: &[Arc<dyn Resource>]) {
        // A second call would be a mistake of the wiring; the first stays in force.
        let _ = self.resources.set(resources.to_vec());
    }

    /// A core object as it is stored now, or `None`.
    ///
    /// # Errors
    /// Whatever the read fails with, except that the object does not exist.
    pub async fn get(
        &self,
        plural: &'static str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let resource = self
            .resources
            .get()
            .and_then(|all| all.iter().find(|one| one.def().gvk.group.is_empty() && one.def().plural == plural))
            .ok_or_else(|| Status::service_unavailable("the API is still starting"))?;
        let ctx = RequestContext {
            user: Arc::new(UserInfo { name: "system:apiserver".into(), ..UserInfo::default() }),
            gvr: Gvr::of("", "v1", plural),
            subresource: None,
            namespace: namespace.map(Arc::from),
            warnings: machinery_registry::request::Warnings::default(),
        };
        match resource.get(&ctx, name, "").await {
            Ok(object) => object.to_value().map(Some).map_err(Status::internal),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }
}
