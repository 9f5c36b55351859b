//! ConfigMaps and Secrets that volumes of this node's pods are made of: each is watched once, however many take it, and
//! only its version is kept.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base_tasks::Tasks;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use machinery_client::ObjectKey;
use tokio::sync::watch;

/// How long the first look at an object may take; a volume is then made all the same, and follows later.
const FIRST_LOOK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Secret,
    PersistentVolumeClaim,
}

/// One object that a volume takes its contents from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    pub kind: Kind,
    pub key: ObjectKey,
}

/// What is known of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Version {
    #[default]
    Unknown,
    Absent,
    At(String),
}

struct Watched {
    tasks: Tasks,
    version: watch::Sender<Version>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Tells of changes of one object, for as long as it is held.
pub struct Following {
    version: watch::Receiver<Version>,
    _watched: Option<Arc<Watched>>,
}

impl Following {
    /// Resolves when the object has appeared, changed or gone since this was made, or since the last call.
    pub async fn changed(&mut self) {
        if self.version.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The objects that are watched.
pub struct Followed {
    tasks: Tasks,
    client: kube::Client,
    watched: Mutex<HashMap<Source, Weak<Watched>>>,
}

impl Followed {
    pub fn new(tasks: &Tasks, client: kube::Client) -> Self {
        Self { tasks: tasks.child("followed"), client, watched: Mutex::default() }
    }

    /// Watches the object. What is read of it after this is at least as new as what is waited for from then on.
    pub async fn follow(&self, source: &Source) -> Following {
        let watched = self.watched(source);
        let mut version = watched.version.subscribe();
        // Without an answer whoever reads the object is told why.
        let _ = tokio::time::timeout(FIRST_LOOK, version.wait_for(|version| *version != Version::Unknown)).await;
        version.mark_unchanged();
        Following { version, _watched: Some(watched) }
    }

    fn watched(&self, source: &Source) -> Arc<Watched> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = all.get(source).and_then(Weak::upgrade) {
            return watched;
        }
        all.retain(|_, watched| watched.strong_count() > 0);
        let watched = Arc::new(Watched { tasks: self.tasks.child("object"), version: watch::Sender::default() });
        all.insert(source.clone(), Arc::downgrade(&watched));
        let (client, key, version) = (self.client.clone(), source.key.clone(), watched.version.clone());
        let resource = match source.kind {
            Kind::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Kind::Secret => ApiResource::erase::<Secret>(&()),
            Kind::PersistentVolumeClaim => ApiResource::erase::<PersistentVolumeClaim>(&()),
        };
        watched.tasks.spawn("followed", note(client, resource, key, version));
        watched
    }
}

/// Carries an object's version from a watch of its metadata: compiled once, whatever the kind.
async fn note(client: kube::Client, resource: ApiResource, key: ObjectKey, version: watch::Sender<Version>) {
    let api = Api::<PartialObjectMeta<DynamicObject>>::namespaced_with(client, &key.namespace, &resource);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
    let mut events = pin!(watcher(api, only).default_backoff());
    let mut listed = Version::Absent;
    let at = |object: PartialObjectMeta<DynamicObject>| Version::At(object.resource_version().unwrap_or_default());
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(Event::Init) => {
                listed = Version::Absent;
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed = at(object);
                continue;
            }
            Ok(Event::InitDone) => std::mem::replace(&mut listed, Version::Absent),
            Ok(Event::Apply(object)) => at(object),
            Ok(Event::Delete(_)) => Version::Absent,
            Err(error) => {
                tracing::warn!(%key, error = &error as &dyn std::error::Error, "an object is not followed; retrying");
                continue;
            }
        };
        version.send_if_modified(|version| std::mem::replace(version, now.clone()) != now);
    }
}

#[cfg(test)]
impl Following {
    /// Of a fake: the sender's every word is a change.
    pub fn of(changes: &FakeObject) -> Self {
        Self { version: changes.0.subscribe(), _watched: None }
    }
}

/// An object whose changes a test tells.
#[cfg(test)]
#[derive(Default)]
pub struct FakeObject(watch::Sender<Version>);

#[cfg(test)]
impl FakeObject {
    pub fn change(&self, version: &str) {
        self.0.send_replace(Version::At(version.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::{BodyExt, Full, StreamBody};
    use serde_json::json;

    use super::*;

    /// An API whose only object is never changed; counts the watches that are open.
    fn api(open: &Arc<AtomicUsize>) -> kube::Client {
        let open = Arc::clone(open);
        machinery_client::over(tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let open = Arc::clone(&open);
            async move {
                let query = request.uri().query().unwrap_or_default();
                assert!(query.contains("fieldSelector=metadata.name%3Dsettings"), "{query}");
                let accept = request.headers()[http::header::ACCEPT].to_str().unwrap();
                assert!(accept.contains("as=PartialObjectMetadata"), "a Secret's content is not asked for: {accept}");
                let body = if query.contains("watch=true") {
                    open.fetch_add(1, Ordering::SeqCst);
                    let closed = Closed(open);
                    let silence = futures::stream::once(async move {
                        let _closed = closed;
                        std::future::pending::<Result<hyper::body::Frame<bytes::Bytes>, Infallible>>().await
                    });
                    StreamBody::new(silence).boxed_unsync()
                } else {
                    let meta = json!({"name": "settings", "namespace": "shop", "resourceVersion": "7"});
                    let list = json!({
                        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                        "metadata": {"resourceVersion": "9"}, "items": [{"metadata": meta}],
                    });
                    Full::new(bytes::Bytes::from(list.to_string())).boxed_unsync()
                };
                Ok::<_, Infallible>(http::Response::new(body))
            }
        }))
    }

    struct Closed(Arc<AtomicUsize>);

    impl Drop for Closed {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_watched_once_and_as_long_as_somebody_follows_it() {
        let open = Arc::new(AtomicUsize::new(0));
        let followed = Followed::new(&Tasks::root("test"), api(&open));
        let source = Source { kind: Kind::ConfigMap, key: ObjectKey::new("shop", "settings") };
        let watches = |wanted| {
            let open = Arc::clone(&open);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(open.load(Ordering::SeqCst), wanted);
            }
        };
        let first = followed.follow(&source).await;
        let mut second = followed.follow(&source).await;
        watches(1).await;
        let quiet = tokio::time::timeout(Duration::from_secs(60), second.changed()).await;
        assert!(quiet.is_err(), "what was there at first is no change");
        drop(first);
        watches(1).await;
        drop(second);
        watches(0).await;
        let _again = followed.follow(&source).await;
        watches(1).await;
    }
}
