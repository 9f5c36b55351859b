//! One kind, served: its erased strategy over a store, a cache of it, and the admission chain. Compiled once for all.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use base_meta::{Gvr, Status};
use machinery_storage::{Cache, Freshness, Object, Storage};

use crate::codec::{self, Stored};
use crate::dialect::Dialect;
use crate::kind::Kind;
use crate::object::Erased;
use crate::pending::Pending;
use crate::scale::ScalePaths;
use crate::{Chain, RequestContext, ResourceDef, SubresourceHandler, failure};

pub type Handlers = BTreeMap<&'static str, Arc<dyn SubresourceHandler>>;

/// The whole path of every verb for one kind. A [`Registry`](crate::Registry) is its typed handle, a
/// [`View`](crate::View) another version of it.
pub struct Core {
    pub(crate) kind: Arc<dyn Kind>,
    /// The stored version.
    pub(crate) dialect: Dialect,
    pub(crate) gvr: Gvr,
    pub(crate) prefix: String,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) admission: Chain,
    pub(crate) scale_paths: ScalePaths,
    /// An object of the kind before anything is set.
    pub(crate) blank: OnceLock<serde_json::Value>,
    handlers: RwLock<Handlers>,
    /// Its other versions, while they are served.
    views: RwLock<Vec<Weak<Dialect>>>,
}

impl Core {
    pub(crate) async fn start(
        kind: Arc<dyn Kind>,
        def: ResourceDef,
        storage: Arc<dyn Storage>,
        admission: Chain,
        handlers: Handlers,
    ) -> Result<Arc<Self>, machinery_storage::Error> {
        let prefix = def.storage_prefix();
        let pending = Arc::new(Pending::default());
        let custom = kind.custom_schema();
        let extract = codec::extractor(kind.clone(), &def, pending.clone(), custom.clone());
        let cache = Arc::new(Cache::start(storage.clone(), prefix.clone(), extract).await?);
        let (gvr, scale_paths) = (def.gvr(), kind.scale_paths());
        let dialect = Dialect::stored(def, custom);
        let handlers = RwLock::new(handlers);
        let blank = OnceLock::new();
        Ok(Arc::new(Self {
            kind,
            dialect,
            gvr,
            prefix,
            storage,
            cache,
            pending,
            admission,
            scale_paths,
            blank,
            handlers,
            views: RwLock::default(),
        }))
    }

    /// Ends every watch and lets go of the store: the kind is served no more. What still holds the core then gets
    /// errors. Dropping the last holder does the same.
    pub fn stop(&self) {
        self.cache.close();
    }

    pub(crate) fn def(&self) -> &ResourceDef {
        &self.dialect.def
    }

    pub(crate) fn handle(&self, subresource: &'static str, handler: Arc<dyn SubresourceHandler>) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).insert(subresource, handler);
    }

    pub(crate) fn handler_of(&self, subresource: &str) -> Option<Arc<dyn SubresourceHandler>> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).get(subresource).cloned()
    }

    pub(crate) fn viewed_as(&self, dialect: &Arc<Dialect>) {
        let mut views = self.views.write().unwrap_or_else(PoisonError::into_inner);
        views.retain(|view| view.strong_count() > 0);
        views.push(Arc::downgrade(dialect));
    }

    pub(crate) fn views(&self) -> Vec<Arc<Dialect>> {
        let views = self.views.read().unwrap_or_else(PoisonError::into_inner);
        views.iter().filter_map(Weak::upgrade).collect()
    }

    /// The namespace of the path as the object carries it.
    pub(crate) fn namespace<'a>(&self, ctx: &'a RequestContext) -> Result<Option<&'a str>, Status> {
        match (self.def().namespaced(), ctx.namespace.as_deref()) {
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
    pub(crate) async fn stored(&self, ctx: &RequestContext, name: &str) -> Result<Stored, Status> {
        let key = self.key(ctx, name)?;
        let object = self.find(&key, Freshness::Latest).await?.ok_or_else(|| Status::not_found(&self.gvr, name))?;
        let typed = self.typed(&object)?;
        Ok(Stored::new(object, typed))
    }

    /// Every object of `namespace`, or of all; an undecodable one is an error.
    pub(crate) async fn typed_list(&self, namespace: Option<&str>) -> Result<Vec<Box<dyn Erased>>, Status> {
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
