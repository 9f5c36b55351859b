//! The configurations, read at boot and followed by watch.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base_meta::Status;
use base_tasks::Tasks;
use futures::StreamExt as _;
use machinery_dial::Dialer;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{ListOptions, Resource};
use machinery_storage::Object;

use super::super::late::server_context;
use super::hook::{Flavour, Hook};

/// Before a watch that failed is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Every webhook of one kind of configuration, in the order they are called.
pub(super) struct Index {
    flavour: Flavour,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// By their configuration's name: so they are called.
    by_configuration: BTreeMap<String, Vec<Arc<Hook>>>,
    all: Arc<[Arc<Hook>]>,
}

impl Index {
    pub(super) fn new(flavour: Flavour) -> Arc<Self> {
        Arc::new(Self { flavour, state: RwLock::default() })
    }

    pub(super) fn hooks(&self) -> Arc<[Arc<Hook>]> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<Arc<Hook>>>)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut state.by_configuration);
        state.all = state.by_configuration.values().flatten().cloned().collect();
    }

    pub(super) fn put(&self, name: &str, hooks: Vec<Hook>) {
        let hooks = hooks.into_iter().map(Arc::new).collect();
        self.change(|all| drop(all.insert(name.to_owned(), hooks)));
    }

    fn put_object(&self, object: &Object, dialer: &Dialer) {
        let hooks = object.to_value().map_err(|error| error.to_string());
        match hooks.and_then(|value| Hook::all_of(&value, dialer)) {
            Ok(hooks) => self.put(&object.meta.name, hooks),
            Err(problem) => tracing::error!(key = &*object.key, problem, "webhooks that are not called"),
        }
    }

    fn remove(&self, name: &str) {
        self.change(|all| drop(all.remove(name)));
    }

    /// Takes in what is stored; answers from where to watch.
    async fn list(&self, resource: &dyn Resource, dialer: &Dialer) -> Result<String, Status> {
        let ctx = server_context(resource.def().gvr(), None);
        let list = resource.list(&ctx, &ListOptions::default()).await?;
        self.change(|all| all.retain(|name, _| list.items.iter().any(|object| *object.meta.name == **name)));
        list.items.iter().for_each(|object| self.put_object(object, dialer));
        Ok(list.revision.to_string())
    }

    /// Complete when this returns, and kept so under `tasks`.
    pub(super) async fn follow(
        self: &Arc<Self>,
        all: &[Arc<dyn Resource>],
        dialer: &Dialer,
        tasks: &Tasks,
    ) -> Result<(), Status> {
        let mine = |resource: &&Arc<dyn Resource>| resource.def().plural == self.flavour.resource();
        let Some(resource) = all.iter().find(mine).cloned() else { return Ok(()) };
        let mut from = self.list(&*resource, dialer).await?;
        let (index, dialer) = (self.clone(), dialer.clone());
        tasks.spawn(self.flavour.resource(), async move {
            loop {
                index.watch(&*resource, &dialer, from).await;
                tokio::time::sleep(AGAIN).await;
                from = index.list(&*resource, &dialer).await.unwrap_or_else(|status| {
                    tracing::warn!(%status, "listing webhooks failed");
                    String::new()
                });
            }
        });
        Ok(())
    }

    /// Until the watch ends.
    async fn watch(&self, resource: &dyn Resource, dialer: &Dialer, from: String) {
        let ctx = server_context(resource.def().gvr(), None);
        let options = ListOptions { resource_version: from, ..ListOptions::default() };
        let mut events = match resource.watch(&ctx, &options).await {
            Ok(events) => events,
            Err(status) => return tracing::warn!(%status, "watching webhooks failed"),
        };
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put_object(&object, dialer),
                WatchEvent::Deleted(object) => self.remove(&object.meta.name),
                WatchEvent::Bookmark { .. } => {}
                WatchEvent::Error(status) => return tracing::debug!(%status, "watching webhooks again"),
            }
        }
    }
}
