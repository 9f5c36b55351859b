//! Deletes what no owner keeps: watches the metadata of every kind, and follows owner references.

mod graph;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use futures::StreamExt;
use machinery_client::kube::api::{
    Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use machinery_client::kube::core::ApiResource;
use machinery_client::kube::discovery::{Discovery, Scope, verbs};
use machinery_client::kube::runtime::WatchStreamExt;
use machinery_client::kube::runtime::watcher::{Config, Event, watcher};
use machinery_client::kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use self::graph::{Action, Graph, Node, OwnerRef, Place, Uid};
use crate::reconcile::{self, Again, During, Error, is_code};

/// How long to wait before discovering again when discovery failed.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// Kinds nobody owns anything through, and that come and go too often to be watched.
const IGNORED: &[&str] = &["Event"];

#[derive(Clone)]
struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

struct Collector {
    client: Client,
    kinds: Vec<Kind>,
    graph: Mutex<Graph>,
}

pub fn start(tasks: &Tasks, client: &Client) {
    let (client, inner) = (client.clone(), tasks.clone());
    tasks.spawn("discover", async move {
        let kinds = loop {
            match discover(&client).await {
                Ok(kinds) => break kinds,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "discovery failed; trying again");
                    tokio::time::sleep(DISCOVERY_RETRY).await;
                }
            }
        };
        collect(&inner, Arc::new(Collector { client, kinds, graph: Mutex::default() }));
    });
}

async fn discover(client: &Client) -> Result<Vec<Kind>, Error> {
    let discovery = Discovery::new(client.clone()).run().await.during("discovering every kind")?;
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    Ok(all
        .filter(|(resource, capabilities)| {
            [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| capabilities.supports_operation(verb))
                && !IGNORED.contains(&resource.kind.as_str())
        })
        .map(|(resource, capabilities)| Kind { resource, namespaced: capabilities.scope == Scope::Namespaced })
        .collect())
}

fn collect(tasks: &Tasks, collector: Arc<Collector>) {
    let queue = reconcile::queue::<Uid>();
    let mut synced = Vec::new();
    for index in 0..collector.kinds.len() {
        let (sender, receiver) = watch::channel(false);
        synced.push(receiver);
        let (collector, queue) = (Arc::clone(&collector), queue.clone());
        tasks.spawn("watch", async move { collector.watch(index, &queue, &sender).await });
    }
    let ready = async move {
        for mut kind in synced {
            // A sender only goes away with the whole collector.
            let _ = kind.wait_for(|synced| *synced).await;
        }
    };
    let requeue = queue.clone();
    reconcile::run(tasks, &queue, 2, ready, move |uid| {
        let (collector, queue) = (Arc::clone(&collector), requeue.clone());
        async move { collector.reconcile(&uid, &queue).await }
    });
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn api(&self, place: &Place) -> Api<DynamicObject> {
        let kind = &self.kinds[place.resource];
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), &place.namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }

    async fn watch(&self, index: usize, queue: &WorkQueue<Uid>, synced: &watch::Sender<bool>) {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.client.clone(), &self.kinds[index].resource);
        let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
        let mut listed = std::collections::HashSet::new();
        while let Some(event) = events.next().await {
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
                    let mut graph = self.graph();
                    let gone = graph.missing(index, &listed);
                    gone.iter().flat_map(|uid| graph.remove(uid)).collect()
                }
                Err(error) => {
                    tracing::warn!(kind = %self.kinds[index].resource.kind, error = &error as &dyn std::error::Error, "watch failed; retrying");
                    Vec::new()
                }
            };
            for uid in look {
                queue.add(uid);
            }
        }
    }

    async fn reconcile(&self, uid: &Uid, queue: &WorkQueue<Uid>) -> Result<Again, Error> {
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
                    queue.add(uid.clone());
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
                let patches: Vec<_> = gone.iter().map(|gone| json!({ "$patch": "delete", "uid": gone })).collect();
                let patch = json!({ "metadata": { "uid": uid, "ownerReferences": patches } });
                api.patch_metadata(&place.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
            }
            Action::RemoveFinalizer(finalizer) => {
                let patch = json!({
                    "metadata": { "uid": uid, "$deleteFromPrimitiveList/finalizers": [finalizer] }
                });
                api.patch_metadata(&place.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
            }
        };
        match outcome {
            // Gone, or another object of that name by now.
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
            other => other.map(|()| None).during("collecting an object without owner"),
        }
    }

    /// Whether the API has this very owner (same uid).
    async fn exists(&self, owner: &OwnerRef, namespace: &str) -> Result<bool, Error> {
        let kind = self
            .kinds
            .iter()
            .position(|kind| kind.resource.api_version == owner.api_version && kind.resource.kind == owner.kind);
        // A kind we do not know may come back with its definition: its objects are kept.
        let Some(resource) = kind else { return Ok(true) };
        let place = Place { resource, namespace: namespace.to_owned(), name: owner.name.clone() };
        let found = self.api(&place).get_metadata_opt(&owner.name).await.during("looking for an owner")?;
        Ok(found.is_some_and(|found| found.uid().as_deref() == Some(&owner.uid)))
    }
}

fn node(resource: usize, meta: &machinery_client::kube::api::ObjectMeta) -> Node {
    Node {
        place: Place {
            resource,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        },
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
