//! A local, always current projection of one list of objects.
//!
//! Keeps what `project` returns, not the object: a typed Pod is 25 KB. One task watches; any number of
//! readers look things up and subscribe to changes.

use std::collections::HashMap;
use std::collections::HashSet;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base_tasks::Tasks;
use futures::StreamExt;
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::ObjectKey;
use crate::raw::Raw;

/// One change, in the order the API server reported them.
#[derive(Debug)]
pub enum Change<P> {
    Applied { key: ObjectKey, old: Option<Arc<P>>, new: Arc<P> },
    Deleted { key: ObjectKey, old: Arc<P> },
}

impl<P> Change<P> {
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Applied { key, .. } | Self::Deleted { key, .. } => key,
        }
    }
}

impl<P> Clone for Change<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { key, old, new } => {
                Self::Applied { key: key.clone(), old: old.clone(), new: Arc::clone(new) }
            }
            Self::Deleted { key, old } => Self::Deleted { key: key.clone(), old: Arc::clone(old) },
        }
    }
}

struct State<P> {
    objects: HashMap<ObjectKey, Arc<P>>,
    subscribers: Vec<mpsc::UnboundedSender<Change<P>>>,
}

struct Shared<P> {
    state: RwLock<State<P>>,
    progress: Arc<Progress>,
}

/// How far the watch is.
struct Progress {
    /// The first complete list is in.
    synced: watch::Sender<bool>,
    /// The highest resourceVersion seen in any event.
    seen: watch::Sender<u64>,
}

impl Progress {
    fn saw(&self, object: &Raw) {
        let version = object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
        self.seen.send_if_modified(|seen| {
            let newer = version > *seen;
            *seen = (*seen).max(version);
            newer
        });
    }
}

/// The API server did not report a write back within [`CATCH_UP`].
#[derive(Debug, thiserror::Error)]
#[error("the informer has not seen resourceVersion {wanted} after {} s, only {seen}", CATCH_UP.as_secs())]
pub struct Lagging {
    wanted: u64,
    seen: u64,
}

/// How long [`Informer::caught_up`] waits: far longer than any watch takes, short enough for a reconciler to retry.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The reading half. Cheap to clone; clones see the same objects.
pub struct Informer<P>(Arc<Shared<P>>);

impl<P> Clone for Informer<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Send + Sync + 'static> Informer<P> {
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<P>> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).objects.get(key).cloned()
    }

    /// Every object kept, in no order.
    pub fn list(&self) -> Vec<(ObjectKey, Arc<P>)> {
        self.select(|_, _| true)
    }

    /// As [`Self::list`], those that `wanted` takes; the others are not copied. Changes wait for it.
    pub fn select(&self, wanted: impl Fn(&ObjectKey, &P) -> bool) -> Vec<(ObjectKey, Arc<P>)> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        let chosen = state.objects.iter().filter(|(key, object)| wanted(key, object));
        chosen.map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    }

    /// Resolves once the first complete list is in; at once from then on.
    pub async fn synced(&self) {
        let mut synced = self.0.progress.synced.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Resolves once the informer shows the write that answered with `resource_version`: a reconciler that reads
    /// its own writes needs no expectations. resourceVersions of one API server are ordered integers.
    ///
    /// # Errors
    /// [`Lagging`] after five seconds, for instance when the object does not match the informer's selector.
    pub async fn caught_up(&self, resource_version: &str) -> Result<(), Lagging> {
        let wanted = resource_version.parse().unwrap_or(0);
        let mut seen = self.0.progress.seen.subscribe();
        let outcome = tokio::time::timeout(CATCH_UP, seen.wait_for(|seen| *seen >= wanted)).await;
        match outcome {
            Ok(_) => Ok(()),
            Err(_) => Err(Lagging { wanted, seen: *self.0.progress.seen.borrow() }),
        }
    }

    /// Every change from now on, after one `Applied` for each object already kept. Unbounded: a subscriber that
    /// lags costs memory, never a lost change.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change<P>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        for (key, object) in &state.objects {
            let change = Change::Applied { key: key.clone(), old: None, new: Arc::clone(object) };
            // The receiver is still in hand.
            let _ = sender.send(change);
        }
        state.subscribers.push(sender);
        receiver
    }

    fn change(&self, key: ObjectKey, new: Option<P>) {
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let change = match new {
            Some(new) => {
                let new = Arc::new(new);
                let old = state.objects.insert(key.clone(), Arc::clone(&new));
                Change::Applied { key, old, new }
            }
            None => match state.objects.remove(&key) {
                Some(old) => Change::Deleted { key, old },
                None => return,
            },
        };
        state.subscribers.retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

/// Where the one task that follows any kind leaves what it reads.
trait Keep: Send + Sync {
    /// # Errors
    /// The text is not an object of the kind; what was known of it stays.
    fn apply(&self, key: ObjectKey, object: &str) -> Result<(), serde_json::Error>;
    fn delete(&self, key: ObjectKey);
    fn keys(&self) -> Vec<ObjectKey>;
}

struct Decoded<K, P, F> {
    informer: Informer<P>,
    project: F,
    kind: PhantomData<fn() -> K>,
}

impl<K, P, F> Keep for Decoded<K, P, F>
where
    K: DeserializeOwned,
    P: Send + Sync + 'static,
    F: Fn(K) -> Option<P> + Send + Sync,
{
    fn apply(&self, key: ObjectKey, object: &str) -> Result<(), serde_json::Error> {
        self.informer.change(key, (self.project)(serde_json::from_str(object)?));
        Ok(())
    }

    fn delete(&self, key: ObjectKey) {
        self.informer.change(key, None);
    }

    fn keys(&self) -> Vec<ObjectKey> {
        let state = self.informer.0.state.read().unwrap_or_else(PoisonError::into_inner);
        state.objects.keys().cloned().collect()
    }
}

/// Lists and watches `api` under `tasks`; keeps `project(object)` of every object for which it is `Some`.
///
/// Errors are retried with back-off for as long as `tasks` lives, and logged; what is kept stays readable. An object
/// that cannot be decoded keeps the others from nothing: it is logged and left out.
pub fn informer<K, P>(
    tasks: &Tasks,
    api: kube::Api<K>,
    config: watcher::Config,
    project: impl Fn(K) -> Option<P> + Send + Sync + 'static,
) -> Informer<P>
where
    K: kube::Resource + DeserializeOwned + 'static,
    P: Send + Sync + 'static,
{
    let progress = Arc::new(Progress { synced: watch::Sender::new(false), seen: watch::Sender::new(0) });
    let informer = Informer(Arc::new(Shared {
        state: RwLock::new(State { objects: HashMap::new(), subscribers: Vec::new() }),
        progress: Arc::clone(&progress),
    }));
    let keep = Decoded { informer: informer.clone(), project, kind: PhantomData };
    let path = api.resource_url().to_owned();
    tasks.spawn("informer", follow(api.into_client(), path, config, Box::new(keep), progress));
    informer
}

async fn follow(
    client: kube::Client,
    path: String,
    config: watcher::Config,
    keep: Box<dyn Keep>,
    progress: Arc<Progress>,
) {
    let api = kube::Api::<Raw>::all_with(client, &path);
    let mut events = pin!(watcher::watcher(api, config).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                for gone in keep.keys().into_iter().filter(|key| !listed.contains(key)) {
                    keep.delete(gone);
                }
                listed = HashSet::new();
                progress.synced.send_replace(true);
            }
            Ok(Event::Delete(object)) => {
                keep.delete(ObjectKey::of(&object));
                progress.saw(&object);
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(ObjectKey::of(&object));
                apply(&*keep, &path, &object);
                progress.saw(&object);
            }
            Ok(Event::Apply(object)) => {
                apply(&*keep, &path, &object);
                progress.saw(&object);
            }
            Err(error) => tracing::warn!(%path, error = &error as &dyn std::error::Error, "watch failed; retrying"),
        }
    }
}

fn apply(keep: &dyn Keep, path: &str, object: &Raw) {
    let key = ObjectKey::of(object);
    if let Err(error) = keep.apply(key.clone(), object.text.get()) {
        tracing::warn!(path, %key, error = &error as &dyn std::error::Error, "an object is left out");
    }
}

#[cfg(test)]
mod tests;
