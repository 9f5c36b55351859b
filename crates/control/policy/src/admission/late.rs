//! A resource that a plug-in reads, bound after both exist: the resource holds the plug-in.

use std::sync::{Arc, LazyLock, OnceLock, Weak};

use base_meta::{Gvr, Reason, Status};
use machinery_registry::{ListOptions, MediaType, Payload, RequestContext, Resource, UpdateOptions, UserInfo};
use machinery_storage::Object;
use serde_json::Value;

use crate::authentication::AUTHENTICATED;
use crate::authorization::MASTERS;

/// How new the answer to a question about many objects is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fresh {
    /// What the cache has: a look-up in memory.
    Cached,
    /// With every acknowledged write.
    Latest,
}

/// All that a plug-in needs of a resource.
#[async_trait::async_trait]
pub(crate) trait Lookup: Send + Sync {
    /// What the cache has; only an object that it lacks is asked of the store.
    async fn find(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status>;

    /// Of a namespace or, without one, of all.
    async fn list(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        fresh: Fresh,
    ) -> Result<Vec<Arc<Object>>, Status>;

    /// Changes the status alone, over the resourceVersion that `object` carries.
    async fn put_status(&self, namespace: Option<&str>, name: &str, object: &Value) -> Result<(), Status>;
}

struct Served(Weak<dyn Resource>);

/// The request as one for another resource.
fn about(resource: &dyn Resource, ctx: &RequestContext, namespace: Option<&str>) -> RequestContext {
    let (gvr, namespace) = (resource.def().gvr(), namespace.map(Arc::from));
    RequestContext { gvr, subresource: None, namespace, ..ctx.clone() }
}

impl Served {
    fn resource(&self) -> Result<Arc<dyn Resource>, Status> {
        self.0.upgrade().ok_or_else(|| Status::service_unavailable("the server is shutting down"))
    }
}

#[async_trait::async_trait]
impl Lookup for Served {
    async fn find(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.resource()?;
        let ctx = about(&*resource, ctx, namespace);
        for version in ["0", ""] {
            match resource.get(&ctx, name, version).await {
                Ok(object) => return Ok(Some(object)),
                Err(status) if status.reason == Reason::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        Ok(None)
    }

    async fn list(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        fresh: Fresh,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let resource = self.resource()?;
        let ctx = about(&*resource, ctx, namespace);
        let resource_version = if fresh == Fresh::Cached { "0".to_owned() } else { String::new() };
        Ok(resource.list(&ctx, &ListOptions { resource_version, ..ListOptions::default() }).await?.items)
    }

    async fn put_status(&self, namespace: Option<&str>, name: &str, object: &Value) -> Result<(), Status> {
        let resource = self.resource()?;
        let mut ctx = server_context(resource.def().gvr(), namespace);
        ctx.subresource = Some(Arc::from("status"));
        let body = Payload { media: MediaType::Json, bytes: object.to_string().into() };
        resource.update(&ctx, name, body, UpdateOptions::default()).await.map(drop)
    }
}

pub(crate) struct Late {
    group: &'static str,
    name: &'static str,
    lookup: OnceLock<Box<dyn Lookup>>,
}

impl Late {
    pub(crate) fn new(group: &'static str, name: &'static str) -> Self {
        Self { group, name, lookup: OnceLock::new() }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_of(&self, gvr: &Gvr) -> bool {
        gvr.group == self.group && gvr.resource == self.name
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
        self.bound()?.find(ctx, namespace, name).await
    }

    pub(crate) async fn list(
        &self,
        ctx: &RequestContext,
        namespace: Option<&str>,
        fresh: Fresh,
    ) -> Result<Vec<Arc<Object>>, Status> {
        self.bound()?.list(ctx, namespace, fresh).await
    }

    pub(crate) async fn put_status(&self, namespace: Option<&str>, name: &str, object: &Value) -> Result<(), Status> {
        self.bound()?.put_status(namespace, name, object).await
    }

    fn bound(&self) -> Result<&dyn Lookup, Status> {
        let lookup = self.lookup.get().map(|lookup| &**lookup);
        lookup.ok_or_else(|| Status::service_unavailable(format!("{} are not served yet", self.name)))
    }

    /// Outside any request.
    pub(crate) async fn find_as_server(
        &self,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        self.find(&server_context(Gvr::of(self.group, "v1", self.name), namespace), namespace, name).await
    }
}

/// Decoded once for every plug-in and request that looks at this version.
pub(crate) fn decoded(object: &Object) -> Result<Arc<Value>, Status> {
    object.try_form("value", || object.to_value()).map_err(Status::internal)
}

static SERVER: LazyLock<Arc<UserInfo>> = LazyLock::new(|| {
    let groups = vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()];
    Arc::new(UserInfo { name: "system:apiserver".to_owned(), groups, ..UserInfo::default() })
});

/// Whether the server acts for itself.
pub(crate) fn is_server(user: &UserInfo) -> bool {
    user.name == SERVER.name && user.groups == SERVER.groups
}

/// The server acting for itself.
pub(crate) fn server_context(gvr: Gvr, namespace: Option<&str>) -> RequestContext {
    let namespace = namespace.filter(|namespace| !namespace.is_empty()).map(Arc::from);
    RequestContext { user: SERVER.clone(), gvr, subresource: None, namespace, warnings: Default::default() }
}
