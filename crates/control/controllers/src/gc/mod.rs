//! Deletes what no owner keeps: watches the metadata of every kind, and follows owner references.

mod graph;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use futures::StreamExt;
use machinery_client::kube::api::{
    Api, DeleteParams, DynamicObject, ObjectMeta, PartialObjectMeta, Patch, PatchParams, Preconditions,
    PropagationPolicy,
};
use machinery_client::kube::core::ApiResource;
use machinery_client::kube::discovery::{Discovery, Scope, verbs};
use machinery_client::kube::runtime::WatchStreamExt;
use machinery_client::kube::runtime::watcher::{Config, Event, watcher};
use machinery_client::kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::{Notify, watch};

use self::graph::{Action, Graph, Node, OwnerRef, Place, Uid};
use crate::reconcile::{self, Again, During, Error, is_code};

/// How long to wait before discovering again when discovery failed.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// Kinds nobody owns anything through, and that come and go too often to be watched.
const IGNORED: &[&str] = &["Event"];

/// A change of one of these may bring kinds, or take them away.
const DEFINITION: &str = "CustomResourceDefinition";

#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

impl Kind {
    fn is(&self, api_version: &str, kind: &str) -> bool {
        self.resource.api_version == api_version && self.resource.kind == kind
    }
}

/// A kind that is or was served; its place in the list is its number in the graph.
struct Followed {
    kind: Kind,
    /// Its watch. Cancelled: the kind is gone.
    watch: Tasks,
}

/// Another look at a kind.
pub struct Seen<'a> {
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    pub what: What<'a>,
}

/// What was seen of it. The namespace is empty for cluster-scoped kinds.
#[derive(Clone, Copy)]
pub enum What<'a> {
    Changed {
        namespace: &'a str,
    },
    Gone {
        namespace: &'a str,
    },
    /// All of it was listed: what came and went since the watch before was seen by nobody.
    Listed,
}

/// Who else wants to know: the collector alone watches every kind.
type Tell = Box<dyn Fn(&Seen<'_>) + Send + Sync>;

struct Collector {
    client: Client,
    tell: Tell,
    kinds: Mutex<Vec<Followed>>,
    /// Kinds may have come or gone.
    changed: Notify,
    graph: Mutex<Graph>,
    queue: WorkQueue<Uid>,
}

pub fn start(tasks: &Tasks, client: &Client, tell: impl Fn(&Seen<'_>) + Send + Sync + 'static) {
    let collector = Arc::new(Collector {
        client: client.clone(),
        tell: Box::new(tell),
        kinds: Mutex::default(),
        changed: Notify::new(),
        graph: Mutex::default(),
        queue: reconcile::queue(),
    });
    let inner = tasks.clone();
    tasks.spawn("discover", async move {
        let synced = collector.follow(&inner).await;
        let ready = async move {
            for mut kind in synced {
                // A sender goes away with the whole collector, or with a kind that is gone.
                let _ = kind.wait_for(|synced| *synced).await;
            }
        };
        let working = Arc::clone(&collector);
        reconcile::run(&inner, &collector.queue, 2, ready, move |uid| {
            let collector = Arc::clone(&working);
            async move { collector.reconcile(&uid).await }
        });
        loop {
            collector.changed.notified().await;
            collector.follow(&inner).await;
        }
    });
}

async fn discover(client: &Client) -> Vec<Kind> {
    let discovery = loop {
        match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => break discovery,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "discovery failed; trying again");
                tokio::time::sleep(DISCOVERY_RETRY).await;
            }
        }
    };
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    all.filter(|(resource, capabilities)| {
        [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb))
            && !IGNORED.contains(&resource.kind.as_str())
    })
    .map(|(resource, capabilities)| Kind { resource, namespaced: capabilities.scope == Scope::Namespaced })
    .collect()
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kinds(&self) -> MutexGuard<'_, Vec<Followed>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches what is served by now, and forgets the objects of kinds that are not served any more. Each new watch
    /// says when it has listed its objects.
    async fn follow(self: &Arc<Self>, tasks: &Tasks) -> Vec<watch::Receiver<bool>> {
        let served = discover(&self.client).await;
        let mut kinds = self.kinds();
        let same = |one: &Kind, other: &Kind| one.is(&other.resource.api_version, &other.resource.kind);
        for (index, followed) in kinds.iter().enumerate().filter(|(_, followed)| !followed.watch.is_cancelled()) {
            if !served.iter().any(|kind| same(kind, &followed.kind)) {
                followed.watch.cancel();
                self.forget_all_but(index, &followed.kind, &HashSet::new());
            }
        }
        let mut synced = Vec::new();
        for kind in served {
            if kinds.iter().any(|followed| !followed.watch.is_cancelled() && same(&kind, &followed.kind)) {
                continue;
            }
            let (sender, receiver) = watch::channel(false);
            synced.push(receiver);
            let watch = tasks.child(&kind.resource.plural);
            let (collector, index, watched) = (Arc::clone(self), kinds.len(), kind.clone());
            watch.spawn("watch", async move { collector.watch(index, watched, &sender).await });
            kinds.push(Followed { kind, watch });
        }
        synced
    }

    fn told(&self, kind: &Kind, what: What<'_>) {
        let ApiResource { group, plural, .. } = &kind.resource;
        (self.tell)(&Seen { group, resource: plural, what });
    }

    fn forget_all_but(&self, index: usize, kind: &Kind, listed: &HashSet<Uid>) {
        let mut graph = self.graph();
        let gone = graph.missing(index, listed);
        for node in gone.iter().filter_map(|uid| graph.get(uid)) {
            self.told(kind, What::Gone { namespace: &node.place.namespace });
        }
        for uid in gone.iter().flat_map(|uid| graph.remove(uid)).collect::<Vec<_>>() {
            self.queue.add(uid);
        }
    }

    fn api(&self, place: &Place) -> Api<DynamicObject> {
        let kind = self.kinds()[place.resource].kind.clone();
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), &place.namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }

    async fn watch(&self, index: usize, kind: Kind, synced: &watch::Sender<bool>) {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), &kind.resource);
        let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
        let mut listed = HashSet::new();
        let defines = kind.resource.kind == DEFINITION;
        while let Some(event) = events.next().await {
            match &event {
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    self.told(&kind, What::Changed { namespace: namespace(&object.metadata) });
                }
                Ok(Event::Delete(object)) => self.told(&kind, What::Gone { namespace: namespace(&object.metadata) }),
                Ok(Event::InitDone) => self.told(&kind, What::Listed),
                Ok(Event::Init) | Err(_) => {}
            }
            if defines && !matches!(event, Ok(Event::Init | Event::InitApply(_))) {
                self.changed.notify_one();
            }
            let look = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    Vec::new()
                }
                Ok(Event::InitApply(object)) => {
                    listed.insert(object.uid().unwrap_or_default());
                    self.graph().apply(object.uid().unwrap_or_default(), node(index, &object.metadata))
                }
                Ok(Event::Apply(object)) => {
                    self.graph().apply(object.uid().unwrap_or_default(), node(index, &object.metadata))
                }
                Ok(Event::Delete(object)) => self.graph().remove(&object.uid().unwrap_or_default()),
                Ok(Event::InitDone) => {
                    synced.send_replace(true);
                    self.forget_all_but(index, &kind, &listed);
                    Vec::new()
                }
                Err(error) => {
                    // Of a kind that is gone, most likely: whether it is, discovery tells.
                    self.changed.notify_one();
                    tracing::debug!(kind = %kind.resource.kind, error = &error as &dyn std::error::Error, "watch failed; retrying");
                    Vec::new()
                }
            };
            for uid in look {
                self.queue.add(uid);
            }
        }
    }

    async fn reconcile(&self, uid: &Uid) -> Result<Again, Error> {
        let (action, place) = {
            let graph = self.graph();
            let Some(action) = graph.plan(uid) else { return Ok(None) };
            let Some(node) = graph.get(uid) else { return Ok(None) };
            (action, node.place.clone())
        };
        let api = self.api(&place);
        let outcome = match action {
            Action::Verify(owners) => {
                for owner in owners {
                    if !self.exists(&owner, &place.namespace).await? {
                        self.graph().mark_absent(owner.uid);
                    }
                }
                // Present after all: its own watch brings it in, and wakes us.
                if self.graph().plan(uid).is_some_and(|action| !matches!(action, Action::Verify(_))) {
                    self.queue.add(uid.clone());
                }
                return Ok(None);
            }
            Action::Delete { foreground } => {
                let propagation_policy =
                    Some(if foreground { PropagationPolicy::Foreground } else { PropagationPolicy::Background });
                let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
                let params = DeleteParams { propagation_policy, preconditions, ..DeleteParams::default() };
                api.delete(&place.name, &params).await.map(drop)
            }
            Action::DropOwners(gone) => {
                return self
                    .amend(&api, &place, uid, |meta| {
                        let mut owners = meta.owner_references.unwrap_or_default();
                        owners.retain(|owner| !gone.contains(&owner.uid));
                        json!({ "ownerReferences": owners })
                    })
                    .await;
            }
            Action::RemoveFinalizer(finalizer) => {
                return self
                    .amend(&api, &place, uid, |meta| {
                        let mut finalizers = meta.finalizers.unwrap_or_default();
                        finalizers.retain(|held| *held != finalizer);
                        json!({ "finalizers": finalizers })
                    })
                    .await;
            }
        };
        match outcome {
            // Gone, or another object of that name by now.
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
            other => other.map(|()| None).during("collecting an object without owner"),
        }
    }

    /// Changes a list of an object's metadata over the version that was read, by a patch that every kind takes.
    async fn amend(
        &self,
        api: &Api<DynamicObject>,
        place: &Place,
        uid: &Uid,
        change: impl FnOnce(ObjectMeta) -> serde_json::Value,
    ) -> Result<Again, Error> {
        let found = api.get_metadata_opt(&place.name).await.during("reading what lost an owner")?;
        let Some(meta) = found.map(|found| found.metadata).filter(|meta| meta.uid.as_ref() == Some(uid)) else {
            return Ok(None);
        };
        let version = meta.resource_version.clone();
        let mut patch = change(meta);
        patch["resourceVersion"] = json!(version);
        let patch = Patch::Merge(json!({ "metadata": patch }));
        match api.patch_metadata(&place.name, &PatchParams::default(), &patch).await {
            Err(error) if is_code(&error, 404) => Ok(None),
            other => other.map(|_| None).during("changing what lost an owner"),
        }
    }

    /// Whether the API has this very owner (same uid).
    async fn exists(&self, owner: &OwnerRef, namespace: &str) -> Result<bool, Error> {
        let kind = self
            .kinds()
            .iter()
            .position(|followed| !followed.watch.is_cancelled() && followed.kind.is(&owner.api_version, &owner.kind));
        // A kind we do not know may come back with its definition: its objects are kept.
        let Some(resource) = kind else { return Ok(true) };
        let place = Place { resource, namespace: namespace.to_owned(), name: owner.name.clone() };
        let found = self.api(&place).get_metadata_opt(&owner.name).await.during("looking for an owner")?;
        Ok(found.is_some_and(|found| found.uid().as_deref() == Some(&owner.uid)))
    }
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("")
}

fn node(resource: usize, meta: &ObjectMeta) -> Node {
    Node {
        place: Place { resource, namespace: namespace(meta).to_owned(), name: meta.name.clone().unwrap_or_default() },
        owners: meta
            .owner_references
            .iter()
            .flatten()
            .map(|owner| OwnerRef {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
                blocks: owner.block_owner_deletion == Some(true),
            })
            .collect(),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
    }
}
