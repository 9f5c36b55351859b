//! The typed handle of a [`Core`]: what handlers and controllers in this process call.

use std::sync::Arc;

use base_meta::Status;
use machinery_storage::Storage;

use crate::core::Core;
pub use crate::core::Handlers;
use crate::object::{into, of_mut};
use crate::update::RACES;
use crate::{Chain, RequestContext, Strategy, SubresourceHandler};

pub struct Registry<S: Strategy> {
    pub(crate) core: Arc<Core>,
    strategy: Arc<S>,
}

impl<S: Strategy> Registry<S> {
    /// Loads what is stored of this kind and follows it from then on.
    pub async fn start(
        strategy: S,
        storage: Arc<dyn Storage>,
        admission: impl Into<Chain>,
        handlers: Handlers,
    ) -> Result<Arc<Self>, machinery_storage::Error> {
        let strategy = Arc::new(strategy);
        let core = Core::start(strategy.clone(), strategy.def(), storage, admission.into(), handlers).await?;
        Ok(Arc::new(Self { core, strategy }))
    }

    /// For a [`View`](crate::View) of it.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Adds a handler that itself needs this registry, as `pods/binding` does; it should hold it weakly.
    pub fn handle(&self, subresource: &'static str, handler: Arc<dyn SubresourceHandler>) {
        self.core.handle(subresource, handler);
    }

    pub fn strategy(&self) -> &S {
        &self.strategy
    }

    /// The newest version, for handlers in this process.
    pub async fn get_typed(&self, ctx: &RequestContext, name: &str) -> Result<S::Object, Status> {
        Ok(into(self.core.stored(ctx, name).await?.typed))
    }

    /// Every object of `namespace`, or of all; an undecodable one is an error.
    pub async fn list_typed(&self, namespace: Option<&str>) -> Result<Vec<S::Object>, Status> {
        Ok(self.core.typed_list(namespace).await?.into_iter().map(into).collect())
    }

    /// Creates from within the process: the same path as a request's, without the decoding.
    pub async fn create_typed(&self, ctx: &RequestContext, object: &S::Object) -> Result<S::Object, Status> {
        Ok(into(self.core.create_erased(ctx, object).await?))
    }

    /// For handlers in this process, which have already decided: no admission, no strategy hooks, no new generation
    /// (binding a pod is not a change of its spec by a user); a deleted object that nothing holds any more is still
    /// removed.
    /// `change` runs again on the newest version when another writer was first.
    pub async fn update_with(
        &self,
        ctx: &RequestContext,
        name: &str,
        mut change: impl FnMut(&mut S::Object) -> Result<(), Status> + Send,
    ) -> Result<S::Object, Status> {
        for _ in 0..RACES {
            let stored = self.core.stored(ctx, name).await?;
            let mut new = stored.typed.boxed();
            change(of_mut(&mut *new))?;
            if let Some(written) = self.core.put_changed(&stored, &*new).await? {
                return Ok(into(self.core.typed(&written.object)?));
            }
        }
        Err(Status::modified(&self.core.gvr, name))
    }
}
