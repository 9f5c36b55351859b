//! A resource that a plug-in reads, bound after both exist: the resource holds the plug-in.

use std::sync::{Arc, OnceLock, Weak};

use base_meta::{Reason, Status};
use machinery_registry::{RequestContext, Resource};
use machinery_storage::Object;

/// Objects by name: all that a plug-in needs of a resource.
#[async_trait::async_trait]
pub(super) trait Lookup: Send + Sync {
    /// What the cache has; only an object that it lacks is asked of the store.
    async fn find(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;
}

struct Served(Weak<dyn Resource>);

#[async_trait::async_trait]
impl Lookup for Served {
    async fn find(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.0.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))?;
        let ctx = RequestContext {
            gvr: resource.def().gvr(),
            subresource: None,
            namespace: namespace.map(Arc::from),
            ..ctx.clone()
        };
        for version in ["0", ""] {
            match resource.get(&ctx, name, version).await {
                Ok(object) => return Ok(Some(object)),
                Err(status) if status.reason == Reason::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        Ok(None)
    }
}

pub(super) struct Late {
    name: &'static str,
    lookup: OnceLock<Box<dyn Lookup>>,
}

impl Late {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, lookup: OnceLock::new() }
    }

    pub(super) fn bind(&self, resource: &Arc<dyn Resource>) {
        self.bind_lookup(Box::new(Served(Arc::downgrade(resource))));
    }

    pub(super) fn bind_lookup(&self, lookup: Box<dyn Lookup>) {
        if self.lookup.set(lookup).is_err() {
            tracing::warn!(resource = self.name, "bound to admission twice; the first stays");
        }
    }

    pub(super) async fn find(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        match self.lookup.get() {
            Some(lookup) => lookup.find(ctx, namespace, name).await,
            None => Err(Status::service_unavailable(format!("{} are not served yet", self.name))),
        }
    }
}
