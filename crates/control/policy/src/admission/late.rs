//! A resource that a plug-in reads, bound after both exist: the resource holds the plug-in.

use std::sync::{Arc, LazyLock, OnceLock, Weak};

use base_meta::{Gvr, Reason, Status};
use machinery_registry::{RequestContext, Resource, UserInfo};
use machinery_storage::Object;

use crate::authentication::AUTHENTICATED;
use crate::authorization::MASTERS;

/// Objects by name: all that a plug-in needs of a resource.
#[async_trait::async_trait]
pub(crate) trait Lookup: Send + Sync {
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

pub(crate) struct Late {
    name: &'static str,
    lookup: OnceLock<Box<dyn Lookup>>,
}

impl Late {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, lookup: OnceLock::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn bind(&self, resource: &Arc<dyn Resource>) {
        self.bind_lookup(Box::new(Served(Arc::downgrade(resource))));
    }

    pub(crate) fn bind_lookup(&self, lookup: Box<dyn Lookup>) {
        if self.lookup.set(lookup).is_err() {
            tracing::warn!(resource = self.name, "bound to admission twice; the first stays");
        }
    }

    pub(crate) async fn find(
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

    /// Outside any request.
    pub(crate) async fn find_as_server(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        self.find(&server_context(Gvr::of("", "v1", self.name), namespace), namespace, name).await
    }
}

static SERVER: LazyLock<Arc<UserInfo>> = LazyLock::new(|| {
    let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
    Arc::new(UserInfo { name: "system:apiserver".to_owned(), groups, ..UserInfo::default() })
});

/// The server acting for itself.
pub(crate) fn server_context(gvr: Gvr, namespace: Option<&str>) -> RequestContext {
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).map(Arc::from);
    RequestContext { user: SERVER.clone(), gvr, subresource: None, namespace, warnings: Default::default() }
}
