//! The loop: takes a pending pod, plans, reserves the room, and binds through the API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base_tasks::{Backoff, Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{self, Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, Regarding, informer};
use serde_json::json;

use crate::facts::{NodeFacts, PodFacts, add};
use crate::filter::{Candidate, reasons, summary};
use crate::score::best;

struct Scheduler {
    client: Client,
    pods: Informer<PodFacts>,
    nodes: Informer<NodeFacts>,
    recorder: Recorder,
    /// Pods bound by us that the informer does not show as bound yet: uid → node.
    reserved: Mutex<HashMap<String, String>>,
}

/// Starts the scheduler under `tasks`. `client` carries the scheduler's own identity.
pub fn start(tasks: &Tasks, client: &Client) {
    let all = Config::default;
    let scheduler = Arc::new(Scheduler {
        pods: informer(tasks, Api::all(client.clone()), all(), |pod: Pod| Some(PodFacts::of(pod))),
        nodes: informer(tasks, Api::all(client.clone()), all(), |node: Node| Some(NodeFacts::of(node))),
        recorder: Recorder::new(tasks, client.clone(), "default-scheduler", None),
        client: client.clone(),
        reserved: Mutex::default(),
    });
    let queue = WorkQueue::new(Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10) });
    tasks.spawn("pods", watch_pods(Arc::clone(&scheduler), queue.clone()));
    tasks.spawn("nodes", watch_nodes(Arc::clone(&scheduler), queue.clone()));
    // One worker: each decision must see the one before.
    tasks.spawn("worker", async move {
        scheduler.pods.synced().await;
        scheduler.nodes.synced().await;
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

impl Scheduler {
    fn reserved(&self) -> MutexGuard<'_, HashMap<String, String>> {
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

    fn candidates(&self) -> Vec<Candidate> {
        let mut candidates: HashMap<String, Candidate> = self
            .nodes
            .list()
            .into_iter()
            .map(|(key, node)| (key.name, Candidate { node: (*node).clone(), ..Candidate::default() }))
            .collect();
        let reserved = self.reserved();
        for (_, pod) in self.pods.list() {
            let node = pod.node.as_ref().or_else(|| reserved.get(&pod.uid));
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
        if self.reserved().contains_key(&pod.uid) {
            return Ok(());
        }
        let candidates = self.candidates();
        let (mut fitting, mut refused) = (Vec::new(), Vec::new());
        for candidate in &candidates {
            match reasons(&pod, candidate) {
                reasons if reasons.is_empty() => fitting.push(candidate),
                reasons => refused.push(reasons),
            }
        }
        match best(&pod, &fitting) {
            Some(candidate) => self.bind(&pod, &candidate.node.name).await,
            None => self.report(&pod, &summary(candidates.len(), &refused)).await,
        }
    }

    async fn bind(&self, pod: &PodFacts, node: &str) -> kube::Result<()> {
        self.reserved().insert(pod.uid.clone(), node.to_owned());
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
        let params = kube::api::PatchParams::default();
        match api.patch_status(&pod.key.name, &params, &kube::api::Patch::Strategic(patch)).await {
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
