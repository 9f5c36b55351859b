//! One kind, served: its strategy over a store, a cache of it, and the admission chain.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base_meta::{Gvr, Status};
use machinery_storage::{Cache, Freshness, Object, Storage};

use crate::codec::{self, Stored};
use crate::{Admission, RequestContext, ResourceDef, Strategy, SubresourceHandler, failure};

pub type Handlers = BTreeMap<&'static str, Arc<dyn SubresourceHandler>>;

/// The generic half of every kind. Typed inside; erased by `dyn` [`Resource`](crate::Resource).
pub struct Registry<S: Strategy> {
    pub(crate) strategy: Arc<S>,
    pub(crate) def: Arc<ResourceDef>,
    pub(crate) gvr: Gvr,
    pub(crate) prefix: String,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) admission: Arc<[Arc<dyn Admission>]>,
    handlers: RwLock<Handlers>,
}

impl<S: Strategy> Registry<S> {
    /// Loads what is stored of this kind and follows it from then on.
    pub async fn start(
        strategy: S,
        storage: Arc<dyn Storage>,
        admission: Arc<[Arc<dyn Admission>]>,
        handlers: Handlers,
    ) -> Result<Arc<Self>, machinery_storage::Error> {
        let strategy = Arc::new(strategy);
        let def = Arc::new(strategy.def());
        let prefix = def.storage_prefix();
        let extract = codec::extractor(strategy.clone(), &def);
        let cache = Arc::new(Cache::start(storage.clone(), prefix.clone(), extract).await?);
        let gvr = def.gvr();
        Ok(Arc::new(Self { strategy, def, gvr, prefix, storage, cache, admission, handlers: RwLock::new(handlers) }))
    }

    /// Adds a handler that itself needs this registry, as `pods/binding` does; it should hold it weakly.
    pub fn handle(&self, subresource: &'static str, handler: Arc<dyn SubresourceHandler>) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(subresource, handler);
    }

    pub(crate) fn handler_of(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).get(subresource).cloned()
    }

    pub fn strategy(&self) -> &S {
        &self.strategy
    }

    /// The namespace of the path as the object carries it.
    pub(crate) fn namespace<'a>(&self, ctx: &'a RequestContext) -> Result<Option<&'a str>, Status> {
        match (self.def.namespaced(), ctx.namespace.as_deref()) {
            (true, Some(namespace)) if !namespace.is_empty() => Ok(Some(namespace)),
            (true, _) => Err(Status::bad_request("an empty namespace may not be set when a resource name is provided")),
            (false, _) => Ok(None),
        }
    }

    pub(crate) fn key(&self, ctx: &RequestContext, name: &str) -> Result<String, Status> {
        Ok(match self.namespace(ctx)? {
            Some(namespace) => format!("{}{namespace}/{name}", self.prefix),
            None => format!("{}{name}", self.prefix),
        })
    }

    pub(crate) async fn find(&self, key: &str, freshness: Freshness) -> Result<Option<Arc<Object>>, Status> {
        self.cache.get(key, freshness).await.map_err(failure::status)
    }

    /// The newest version, or `NotFound`.
    pub(crate) async fn stored(&self, ctx: &RequestContext, name: &str) -> Result<Stored<S::Object>, Status> {
        let key = self.key(ctx, name)?;
        let object = self.find(&key, Freshness::Latest).await?.ok_or_else(|| Status::not_found(&self.gvr, name))?;
        let typed = self.typed(&object)?;
        Ok(Stored { object, typed })
    }

    /// The newest version, for handlers in this process.
    pub async fn get_typed(&self, ctx: &RequestContext, name: &str) -> Result<S::Object, Status> {
        Ok(self.stored(ctx, name).await?.typed)
    }

    /// Every object of `namespace`, or of all; an undecodable one is an error.
    pub async fn list_typed(&self, namespace: Option<&str>) -> Result<Vec<S::Object>, Status> {
        use machinery_storage::cache::{At, Query};
        let prefix = match namespace {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        };
        let query = Query { prefix: &prefix, start_after: None, limit: 0, at: At::Fresh(Freshness::Latest) };
        let page = self.cache.list(query, |_| true).await.map_err(failure::status)?;
        page.items.iter().map(|object| self.typed(object)).collect()
    }
}
