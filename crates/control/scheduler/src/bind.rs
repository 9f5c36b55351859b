//! The loop: takes a pending pod, plans, reserves the room, and binds through the API.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::csi::Handle;
use api::volume::{BOUND_BY_CONTROLLER, Claim, Class, SELECTED_NODE, Volume};
use base_tasks::{Backoff, Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{self, Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, Regarding, informer};
use serde_json::json;

use crate::facts::{NodeFacts, PodFacts, add};
use crate::filter::{Candidate, reasons, summary};
use crate::score::best;
use crate::volume_limits::{self, Limits};
use crate::volumes::{Demand, Informers, Step, Storage as _};

struct Scheduler {
    client: Client,
    pods: Informer<PodFacts>,
    nodes: Informer<NodeFacts>,
    recorder: Recorder,
    storage: Informers,
    /// How many volumes of drivers each node can have.
    limits: Informer<Limits>,
    /// Pods whose nodes are chosen, and the informer does not show that yet, by uid.
    reserved: Mutex<HashMap<String, Reservation>>,
}

/// The node that a pod goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reservation {
    /// It is bound.
    Bound(String),
    /// Once its claims have their volumes there.
    Awaiting(String),
}

impl Reservation {
    fn node(&self) -> &str {
        match self {
            Self::Bound(node) | Self::Awaiting(node) => node,
        }
    }
}

/// Starts the scheduler under `tasks`. `client` carries the scheduler's own identity.
pub fn start(tasks: &Tasks, client: &Client) {
    let all = Config::default;
    let scheduler = Arc::new(Scheduler {
        pods: informer(tasks, Api::all(client.clone()), all(), |pod: Pod| Some(PodFacts::of(pod))),
        nodes: informer(tasks, Api::all(client.clone()), all(), |node: Node| Some(NodeFacts::of(node))),
        recorder: Recorder::new(tasks, client.clone(), "default-scheduler", None),
        storage: Informers {
            claims: informer(tasks, Api::all(client.clone()), all(), |claim: PersistentVolumeClaim| {
                Some(Claim::of(claim))
            }),
            volumes: informer(tasks, Api::all(client.clone()), all(), |volume: PersistentVolume| {
                Some(Volume::of(volume))
            }),
            classes: informer(tasks, Api::all(client.clone()), all(), |class: StorageClass| Some(Class::of(class))),
        },
        limits: informer(tasks, Api::all(client.clone()), all(), |node: CSINode| Some(volume_limits::of(node))),
        client: client.clone(),
        reserved: Mutex::default(),
    });
    let queue = WorkQueue::new(Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10) });
    tasks.spawn("pods", watch_pods(Arc::clone(&scheduler), queue.clone()));
    tasks.spawn("nodes", watch_nodes(Arc::clone(&scheduler), queue.clone()));
    let storage = scheduler.storage.clone();
    tasks.spawn("claims", watch_storage(Arc::clone(&scheduler), storage.claims, queue.clone()));
    tasks.spawn("volumes", watch_storage(Arc::clone(&scheduler), storage.volumes, queue.clone()));
    tasks.spawn("classes", watch_storage(Arc::clone(&scheduler), storage.classes, queue.clone()));
    tasks.spawn("csi-nodes", watch_storage(Arc::clone(&scheduler), scheduler.limits.clone(), queue.clone()));
    // One worker: each decision must see the one before.
    tasks.spawn("worker", async move {
        scheduler.pods.synced().await;
        scheduler.nodes.synced().await;
        scheduler.storage.synced().await;
        scheduler.limits.synced().await;
        while let Some(key) = queue.next().await {
            match scheduler.schedule(&key).await {
                Ok(()) => queue.forget(&key),
                Err(error) => {
                    tracing::warn!(pod = %key, error = &error as &dyn std::error::Error, "scheduling failed; trying again");
                    queue.retry(key.clone());
                }
            }
            queue.done(&key);
        }
    });
}

async fn watch_pods(scheduler: Arc<Scheduler>, queue: WorkQueue<ObjectKey>) {
    let mut changes = scheduler.pods.subscribe();
    while let Some(change) = changes.recv().await {
        match change {
            Change::Applied { key, old, new } => {
                if new.node.is_some() || new.terminal {
                    scheduler.reserved().remove(&new.uid);
                }
                if new.pending() {
                    // Our own report that it fits nowhere is no reason to look again.
                    let reported = old.is_some_and(|old| old.unschedulable != new.unschedulable && old.uid == new.uid);
                    if !reported {
                        queue.add(key);
                    }
                } else if new.terminal && new.node.is_some() {
                    scheduler.retry_pending(&queue);
                }
            }
            Change::Deleted { old, .. } => {
                scheduler.reserved().remove(&old.uid);
                if old.node.is_some() {
                    scheduler.retry_pending(&queue);
                }
            }
        }
    }
}

async fn watch_nodes(scheduler: Arc<Scheduler>, queue: WorkQueue<ObjectKey>) {
    let mut changes = scheduler.nodes.subscribe();
    while let Some(change) = changes.recv().await {
        // Heartbeats change nothing that scheduling reads.
        if let Change::Applied { old, new, .. } = change
            && old.as_deref() != Some(&*new)
        {
            scheduler.retry_pending(&queue);
        }
    }
}

/// Any change may be what a pod with claims waits for.
async fn watch_storage<P: PartialEq + Send + Sync + 'static>(
    scheduler: Arc<Scheduler>,
    informer: Informer<P>,
    queue: WorkQueue<ObjectKey>,
) {
    let mut changes = informer.subscribe();
    while let Some(change) = changes.recv().await {
        if let Change::Applied { old: Some(old), new, .. } = &change
            && old == new
        {
            continue;
        }
        for (key, pod) in scheduler.pods.select(|_, pod| !pod.claims.is_empty()) {
            if pod.pending() {
                queue.add(key);
            }
        }
    }
}

impl Scheduler {
    fn reserved(&self) -> MutexGuard<'_, HashMap<String, Reservation>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room may have come free: every pending pod is looked at again.
    fn retry_pending(&self, queue: &WorkQueue<ObjectKey>) {
        for (key, pod) in self.pods.list() {
            if pod.pending() {
                queue.add(key);
            }
        }
    }

    /// With what is on each node, but for this pod itself.
    fn candidates(&self, pod: &PodFacts) -> Vec<Candidate> {
        let mut candidates: HashMap<String, Candidate> = self
            .nodes
            .list()
            .into_iter()
            .map(|(key, node)| (key.name, Candidate { node: (*node).clone(), ..Candidate::default() }))
            .collect();
        let reserved = self.reserved();
        for (_, pod) in self.pods.select(|_, other| other.uid != pod.uid) {
            let node = pod.node.as_deref().or_else(|| reserved.get(&pod.uid).map(Reservation::node));
            if let Some(candidate) = node.and_then(|node| candidates.get_mut(node))
                && !pod.terminal
            {
                add(&mut candidate.used, &pod.requests);
                candidate.host_ports.extend(pod.host_ports.iter().cloned());
            }
        }
        candidates.into_values().collect()
    }

    async fn schedule(&self, key: &ObjectKey) -> kube::Result<()> {
        let Some(pod) = self.pods.get(key).filter(|pod| pod.pending()) else { return Ok(()) };
        let meant = match self.reserved().get(&pod.uid) {
            Some(Reservation::Bound(_)) => return Ok(()),
            Some(Reservation::Awaiting(node)) => Some(node.clone()),
            None => None,
        };
        let candidates = self.candidates(&pod);
        let demand = match Demand::of(&pod, &self.storage) {
            Ok(demand) => demand,
            Err(why) => {
                self.reserved().remove(&pod.uid);
                return self.report(&pod, &format!("0/{} nodes are available: {why}.", candidates.len())).await;
            }
        };
        let taken = self.claims_taken(&pod);
        let volumes = volume_limits::volumes(&pod, &self.storage);
        let (mut fitting, mut refused) = (Vec::new(), Vec::new());
        for candidate in &candidates {
            let mut all = reasons(&pod, candidate);
            if all.is_empty() && !pod.claims.is_empty() {
                all = demand.reasons(&candidate.node, &taken);
                if self.has_too_many(&candidate.node.name, &volumes) {
                    all.push(volume_limits::EXCEEDED.to_owned());
                }
            }
            match all {
                reasons if reasons.is_empty() => fitting.push(candidate),
                reasons => refused.push(reasons),
            }
        }
        let still = fitting.iter().copied().find(|candidate| Some(&candidate.node.name) == meant.as_ref());
        match still.or_else(|| best(&pod, &fitting)) {
            Some(candidate) if demand.waits() => self.ready_volumes(&pod, &candidate.node, &demand).await,
            Some(candidate) => self.bind(&pod, &candidate.node.name).await,
            None => {
                self.reserved().remove(&pod.uid);
                self.report(&pod, &summary(candidates.len(), &refused)).await
            }
        }
    }

    /// Whether a driver's volumes on the node would be more than it can have.
    fn has_too_many(&self, node: &str, wanted: &BTreeSet<Handle>) -> bool {
        let limits = self.limits.get(&ObjectKey::new("", node)).filter(|limits| !limits.is_empty());
        let Some(limits) = limits.filter(|_| !wanted.is_empty()) else { return false };
        let there = {
            let reserved = self.reserved();
            self.pods.select(|_, other| {
                let chosen = reserved.get(&other.uid).map(Reservation::node);
                other.node.as_deref().or(chosen) == Some(node) && !other.terminal
            })
        };
        let there = there.iter().flat_map(|(_, other)| volume_limits::volumes(other, &self.storage)).collect();
        volume_limits::exceeded(wanted, &there, &limits)
    }

    /// Claims of the pod's namespace that are in use.
    fn claims_taken(&self, pod: &PodFacts) -> HashSet<String> {
        if pod.claims.is_empty() {
            return HashSet::new();
        }
        let namespace = &pod.key.namespace;
        let reserved = self.reserved();
        let others = self.pods.select(|key, other| {
            key.namespace == *namespace
                && other.uid != pod.uid
                && !other.terminal
                && (other.node.is_some() || reserved.contains_key(&other.uid))
        });
        others
            .into_iter()
            .flat_map(|(_, other)| other.claims.iter().map(|used| used.claim.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// Writes what brings the pod's claims their volumes on the node; when they have them, the pod is looked at again.
    async fn ready_volumes(&self, pod: &PodFacts, node: &NodeFacts, demand: &Demand) -> kube::Result<()> {
        self.reserved().insert(pod.uid.clone(), Reservation::Awaiting(node.name.clone()));
        for step in demand.steps(node).unwrap_or_default() {
            let written = match &step {
                Step::SetAside { volume, claim } => self.set_aside(&pod.key.namespace, volume, claim).await,
                Step::Select { claim } => {
                    let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &pod.key.namespace);
                    let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node.name}}});
                    api.patch(claim, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
                }
            };
            match written {
                // What it was is what it is not any more: the change wakes us.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    async fn set_aside(&self, namespace: &str, volume: &str, claim: &str) -> kube::Result<()> {
        let Some(found) = self.storage.claim(namespace, claim) else { return Ok(()) };
        let api = Api::<PersistentVolume>::all(self.client.clone());
        let Some(current) = api.get_opt(volume).await? else { return Ok(()) };
        if current.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_some()) {
            return Ok(()); // somebody was faster
        }
        let patch = json!({
            "metadata": {"resourceVersion": current.metadata.resource_version, "annotations": {BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": namespace, "name": claim, "uid": found.uid}},
        });
        api.patch(volume, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    async fn bind(&self, pod: &PodFacts, node: &str) -> kube::Result<()> {
        self.reserved().insert(pod.uid.clone(), Reservation::Bound(node.to_owned()));
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.key.namespace, pod.key.name);
        match self.client.request::<serde_json::Value>(post(&path, &binding)).await {
            Ok(_) => {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder.event(&regarding(pod), EventKind::Normal, "Scheduled", &message);
                Ok(())
            }
            Err(error) => {
                self.reserved().remove(&pod.uid);
                match &error {
                    // Deleted, or bound by somebody else: the informer tells what became of it.
                    kube::Error::Api(status) if status.code == 404 || status.code == 409 => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }

    /// The pod fits nowhere: says so once in its condition and in an event. A change of nodes or pods retries it.
    async fn report(&self, pod: &PodFacts, message: &str) -> kube::Result<()> {
        if pod.unschedulable.as_deref() == Some(message) {
            return Ok(());
        }
        self.recorder.event(&regarding(pod), EventKind::Warning, "FailedScheduling", message);
        let patch = json!({
            "metadata": { "uid": pod.uid },
            "status": { "conditions": [{
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
                "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }] },
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.key.namespace);
        let params = PatchParams::default();
        match api.patch_status(&pod.key.name, &params, &Patch::Strategic(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn post(path: &str, body: &serde_json::Value) -> http::Request<Vec<u8>> {
    http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .expect("object names make a valid path")
}

fn regarding(pod: &PodFacts) -> Regarding {
    Regarding {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.key.namespace.clone(),
        name: pod.key.name.clone(),
        uid: pod.uid.clone(),
        field_path: None,
    }
}
