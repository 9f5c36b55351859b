//! A local, always current projection of one list of objects.
//!
//! Keeps what `project` returns, not the object: a typed Pod is 25 KB. One task watches; any number of
//! readers look things up and subscribe to changes.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base_tasks::Tasks;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::ObjectKey;

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
    synced: watch::Sender<bool>,
    /// The highest resourceVersion seen in any event.
    seen: watch::Sender<u64>,
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
        let mut synced = self.0.synced.subscribe();
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
        let mut seen = self.0.seen.subscribe();
        let outcome = tokio::time::timeout(CATCH_UP, seen.wait_for(|seen| *seen >= wanted)).await;
        match outcome {
            Ok(_) => Ok(()),
            Err(_) => Err(Lagging { wanted, seen: *self.0.seen.borrow() }),
        }
    }

    fn saw(&self, version: u64) {
        self.0.seen.send_if_modified(|seen| {
            let newer = version > *seen;
            *seen = (*seen).max(version);
            newer
        });
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

    /// Drops what a fresh list no longer has.
    fn retain(&self, listed: &HashSet<ObjectKey>) {
        let gone: Vec<_> = {
            let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
            state.objects.keys().filter(|key| !listed.contains(key)).cloned().collect()
        };
        for key in gone {
            self.change(key, None);
        }
    }
}

/// Lists and watches `api` under `tasks`; keeps `project(object)` of every object for which it is `Some`.
///
/// Errors are retried with back-off for as long as `tasks` lives, and logged; what is kept stays readable.
pub fn informer<K, P>(
    tasks: &Tasks,
    api: kube::Api<K>,
    config: watcher::Config,
    project: impl Fn(K) -> Option<P> + Send + Sync + 'static,
) -> Informer<P>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    P: Send + Sync + 'static,
{
    let informer = Informer(Arc::new(Shared {
        state: RwLock::new(State { objects: HashMap::new(), subscribers: Vec::new() }),
        synced: watch::Sender::new(false),
        seen: watch::Sender::new(0),
    }));
    let url = api.resource_url().to_owned();
    let writer = informer.clone();
    tasks.spawn("informer", async move {
        let mut events = pin!(watcher::watcher(api, config).default_backoff());
        let mut listed = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    let (key, version) = (ObjectKey::of(&object), version(&object));
                    listed.insert(key.clone());
                    writer.change(key, project(object));
                    writer.saw(version);
                }
                Ok(Event::InitDone) => {
                    writer.retain(&listed);
                    listed = HashSet::new();
                    writer.0.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => {
                    let (key, version) = (ObjectKey::of(&object), version(&object));
                    writer.change(key, project(object));
                    writer.saw(version);
                }
                Ok(Event::Delete(object)) => {
                    writer.change(ObjectKey::of(&object), None);
                    writer.saw(version(&object));
                }
                Err(error) => tracing::warn!(%url, error = &error as &dyn std::error::Error, "watch failed; retrying"),
            }
        }
    });
    informer
}

fn version<K: kube::Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Request, Response};
    use http_body_util::{BodyExt, Full, StreamBody};
    use kube::api::{ApiResource, DynamicObject};
    use kube::core::GroupVersionKind;
    use serde_json::{Value, json};

    use super::*;

    type Frames = mpsc::UnboundedReceiver<Value>;

    fn object(name: &str, version: u64) -> Value {
        let meta = json!({ "name": name, "namespace": "default", "resourceVersion": version.to_string() });
        json!({ "apiVersion": "example.org/v1", "kind": "Boat", "metadata": meta })
    }

    /// An API of one list of boats, and one watch that sends what the test sends.
    fn boats(items: Vec<Value>, watch: Frames) -> kube::Api<DynamicObject> {
        let watch = Arc::new(Mutex::new(Some(watch)));
        let client = crate::over(tower::service_fn(move |request: Request<kube::client::Body>| {
            let (items, watch) = (items.clone(), Arc::clone(&watch));
            async move {
                let body = if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                    let frames = watch.lock().unwrap_or_else(PoisonError::into_inner).take().expect("one watch");
                    let lines = futures::stream::unfold(frames, |mut frames| async move {
                        let line = format!("{}\n", frames.recv().await?);
                        Some((Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::from(line))), frames))
                    });
                    StreamBody::new(lines).boxed_unsync()
                } else {
                    let list = json!({
                        "apiVersion": "example.org/v1", "kind": "BoatList",
                        "metadata": { "resourceVersion": "7" }, "items": items,
                    });
                    Full::new(bytes::Bytes::from(list.to_string())).boxed_unsync()
                };
                Ok::<_, Infallible>(Response::new(body))
            }
        }));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.org", "v1", "Boat"));
        kube::Api::all_with(client, &resource)
    }

    #[tokio::test]
    async fn it_shows_the_list_then_every_change() {
        let (send, frames) = mpsc::unbounded_channel();
        let tasks = Tasks::root("test");
        let api = boats(vec![object("dinghy", 3), object("ignored", 4)], frames);
        let informer = informer(&tasks, api, watcher::Config::default(), |boat: DynamicObject| {
            let name = boat.metadata.name?;
            (name != "ignored").then_some(name)
        });
        informer.synced().await;
        let key = ObjectKey::new("default", "dinghy");
        assert_eq!(informer.get(&key).as_deref().map(String::as_str), Some("dinghy"));
        assert_eq!(informer.list().len(), 1);

        let mut changes = informer.subscribe();
        let first = changes.recv().await.expect("what is there comes first");
        assert!(matches!(&first, Change::Applied { old: None, .. }) && first.key() == &key);
        send.send(json!({ "type": "ADDED", "object": object("junk", 8) })).expect("watching");
        send.send(json!({ "type": "DELETED", "object": object("dinghy", 9) })).expect("watching");
        informer.caught_up("9").await.expect("seen");
        assert!(matches!(changes.recv().await, Some(Change::Applied { key, .. }) if key.name == "junk"));
        assert!(matches!(changes.recv().await, Some(Change::Deleted { key, .. }) if key.name == "dinghy"));
        assert_eq!(informer.get(&key), None);
    }

    #[tokio::test]
    async fn a_write_that_never_shows_is_an_error() {
        let (_send, frames) = mpsc::unbounded_channel();
        let tasks = Tasks::root("test");
        let boats = informer(
            &tasks,
            boats(vec![object("dinghy", 3)], frames),
            watcher::Config::default(),
            |_: DynamicObject| Some(()),
        );
        boats.synced().await;
        tokio::time::pause();
        assert!(boats.caught_up("99").await.is_err());
    }
}
