//! Keeps one pod of a DaemonSet on each node that it wants.

mod eligible;
mod history;
mod plan;
mod pod;
mod rolling;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use machinery_client::kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, informer};
use serde_json::json;
use tokio::time::Instant;

use self::plan::{Given, Plan, Why};
use crate::nodes::NodeFacts;
use crate::programmed::Programmed;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::replicaset::{patch_pod, regarding};
use crate::world::{PodFacts, World, controller_of, owned_by};

/// Pods made at once.
const PARALLEL: usize = 16;
/// Made or deleted in one step, as upstream's `BurstReplicas`.
const BURST: usize = 250;
/// Between two replacements of a failed pod on one node: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

struct Controller {
    client: Client,
    world: World,
    sets: Informer<DaemonSet>,
    revisions: Informer<ControllerRevision>,
    recorder: Recorder,
    programmed: Programmed,
    /// By set and node: when a failed pod may be replaced next, and the delay after that.
    failures: Mutex<HashMap<(String, String), (Instant, Duration)>>,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World, programmed: Programmed) {
    let sets = informer(tasks, Api::all(client.clone()), Config::default(), |set: DaemonSet| Some(set));
    let revisions = informer(tasks, Api::all(client.clone()), Config::default(), |revision: ControllerRevision| {
        controller_of(&revision.metadata).is_some_and(|owner| owner.kind == "DaemonSet").then_some(revision)
    });
    let queue = reconcile::queue::<ObjectKey>();
    wake(tasks, world, &sets, &queue);
    programmed.wake(tasks, &queue);
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        sets,
        revisions,
        recorder: Recorder::new(tasks, client.clone(), "daemonset-controller", None),
        programmed,
        failures: Mutex::default(),
    });
    let ready = {
        let controller = Arc::clone(&controller);
        async move {
            controller.sets.synced().await;
            controller.revisions.synced().await;
            controller.world.pods.synced().await;
            controller.world.nodes.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    });
}

fn wake(tasks: &Tasks, world: &World, sets: &Informer<DaemonSet>, queue: &WorkQueue<ObjectKey>) {
    reconcile::wake(tasks, sets, {
        let queue = queue.clone();
        move |change| queue.add(change.key().clone())
    });
    reconcile::wake(tasks, &world.nodes, {
        let (queue, sets) = (queue.clone(), sets.clone());
        // What decides of a node is its labels and taints.
        let decides = |node: &NodeFacts| (node.labels.clone(), node.taints.clone());
        move |change| {
            let same = matches!(change, Change::Applied { old: Some(old), new, .. } if decides(old) == decides(new));
            if !same {
                sets.list().into_iter().for_each(|(key, _)| queue.add(key));
            }
        }
    });
    let sets = sets.clone();
    reconcile::wake_owners(tasks, &world.pods, queue, "DaemonSet", move |pod| {
        let here = sets.select(|key, _| key.namespace == pod.key.namespace);
        here.into_iter().map(|(key, _)| key).collect()
    });
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(set) = self.sets.get(key) else {
            return Ok(None);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let Some(current) = self.revision(key, &set).await? else { return Ok(None) };
        let hash = pod::hash(&current).unwrap_or_default().to_owned();
        let pods = self.world.pods_in(&key.namespace);
        let nodes: Vec<Arc<NodeFacts>> = self.world.nodes.list().into_iter().map(|(_, node)| node).collect();
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let held = Mutex::new(None::<Duration>);
        let may_replace = |node: &str| match self.hold(&uid, node) {
            None => true,
            Some(left) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                *held = Some(held.map_or(left, |held| held.min(left)));
                false
            }
        };
        let now = Timestamp::now();
        let plan = plan::plan(&Given {
            set: &set,
            pods: &pods.iter().map(Arc::as_ref).collect::<Vec<_>>(),
            nodes: &nodes.iter().map(Arc::as_ref).collect::<Vec<_>>(),
            hash: &hash,
            unknown: &|pod| self.programmed.unknown_for(pod, key, now),
            may_replace: &may_replace,
            now,
        });
        let done = self.execute(key, &set, &current, &plan, &uid).await;
        self.forget_revisions(key, &set, &hash, &pods).await?;
        self.write_status(key, &set, &plan.status).await?;
        done?;
        let held = held.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(plan.recheck.map(jiff::SignedDuration::unsigned_abs).into_iter().chain(held).min())
    }

    async fn execute(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        current: &ControllerRevision,
        plan: &Plan,
        uid: &str,
    ) -> Result<(), Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        for name in &plan.adopt {
            patch_pod(&api, name, &json!({ "metadata": { "ownerReferences": [owned_by(set)] } })).await?;
        }
        for name in &plan.release {
            let patch = json!({ "metadata": { "ownerReferences": [{ "$patch": "delete", "uid": uid }] } });
            patch_pod(&api, name, &patch).await?;
        }
        for (name, why) in plan.delete.iter().take(BURST) {
            self.delete(&api, set, name, *why).await?;
        }
        let make = |node: String| {
            let (api, pod) = (api.clone(), pod::pod(set, current, &node));
            async move { api.create(&PostParams::default(), &pod).await }
        };
        let wanted: Vec<String> = plan.create.iter().take(BURST).cloned().collect();
        let mut made = futures::stream::iter(wanted).map(make).buffer_unordered(PARALLEL);
        let (mut newest, mut failure) = (0u64, None);
        while let Some(outcome) = made.next().await {
            match outcome {
                Ok(pod) => {
                    let name = pod.metadata.name.unwrap_or_default();
                    newest = newest.max(pod.metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0));
                    self.event(set, EventKind::Normal, "SuccessfulCreate", &format!("Created pod: {name}"));
                }
                Err(error) => {
                    self.event(set, EventKind::Warning, "FailedCreate", &format!("Error creating: {error}"));
                    failure.get_or_insert(error);
                }
            }
        }
        self.world.pods.caught_up(&newest.to_string()).await?;
        match failure {
            Some(error) => Err(error).during("making a DaemonSet's pods"),
            None => Ok(()),
        }
    }

    async fn delete(&self, api: &Api<Pod>, set: &DaemonSet, name: &str, why: Why) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let node = self.world.pods.get(&ObjectKey::new(namespace, name));
        let node = node.and_then(|pod| pod.destination().map(ToOwned::to_owned)).unwrap_or_default();
        match why {
            Why::Failed => {
                self.failed_again(set.metadata.uid.as_deref().unwrap_or_default(), &node);
                let message = format!("Found failed daemon pod {namespace}/{name} on node {node}, will try to kill it");
                self.event(set, EventKind::Warning, "FailedDaemonPod", &message);
            }
            Why::Succeeded => {
                let message =
                    format!("Found succeeded daemon pod {namespace}/{name} on node {node}, will try to delete it");
                self.event(set, EventKind::Normal, "SucceededDaemonPod", &message);
            }
            Why::Surplus | Why::Old => {}
        }
        match api.delete(name, &DeleteParams::default()).await {
            Ok(answer) => {
                if let Some(version) = answer.left().and_then(|pod| pod.metadata.resource_version) {
                    self.world.pods.caught_up(&version).await?;
                }
                self.event(set, EventKind::Normal, "SuccessfulDelete", &format!("Deleted pod: {name}"));
                Ok(())
            }
            Err(error) if is_code(&error, 404) => Ok(()),
            Err(error) => {
                self.event(set, EventKind::Warning, "FailedDelete", &format!("Error deleting: {error}"));
                Err(error).during("deleting a DaemonSet's pod")
            }
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), (Instant, Duration)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a failed pod of the node is left where it is.
    fn hold(&self, uid: &str, node: &str) -> Option<Duration> {
        let now = Instant::now();
        let mut failures = self.failures();
        // Long after its last failure a node starts anew.
        failures.retain(|_, (until, _)| now < *until + BACKOFF.1 * 2);
        let (until, _) = failures.get(&(uid.to_owned(), node.to_owned()))?;
        (*until > now).then(|| *until - now)
    }

    fn failed_again(&self, uid: &str, node: &str) {
        let mut failures = self.failures();
        let entry = failures.entry((uid.to_owned(), node.to_owned())).or_insert((Instant::now(), BACKOFF.0));
        let delay = entry.1;
        *entry = (Instant::now() + delay, (delay * 2).min(BACKOFF.1));
    }

    /// The set's own revisions.
    fn revisions_of(&self, key: &ObjectKey, set: &DaemonSet) -> Vec<Arc<ControllerRevision>> {
        let owned = self.revisions.select(|revision, object| {
            revision.namespace == key.namespace
                && controller_of(&object.metadata).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
        });
        owned.into_iter().map(|(_, revision)| revision).collect()
    }

    /// That of the template as it is now, with the highest number; `None` when its name was taken, which the status says
    /// and so wakes us again.
    async fn revision(&self, key: &ObjectKey, set: &DaemonSet) -> Result<Option<ControllerRevision>, Error> {
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), &key.namespace);
        let (current, old): (Vec<_>, Vec<_>) =
            self.revisions_of(key, set).into_iter().partition(|revision| history::matches(set, revision));
        let number = old.iter().map(|revision| revision.revision).max().unwrap_or(0) + 1;
        if let Some(found) = current.into_iter().max_by_key(|revision| revision.revision) {
            if found.revision >= number {
                return Ok(Some((*found).clone()));
            }
            // The template came back: it is the newest again.
            let name = found.metadata.name.clone().unwrap_or_default();
            let patch = json!({ "revision": number });
            let written = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            return self.shown(written.during("renumbering a revision")?).await.map(Some);
        }
        let new = history::new(set, number);
        match api.create(&PostParams::default(), &new).await {
            Err(error) if is_code(&error, 409) => {
                let name = new.metadata.name.unwrap_or_default();
                let there = api.get(&name).await.during("reading a revision")?;
                let ours =
                    controller_of(&there.metadata).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref());
                if ours && history::matches(set, &there) {
                    return Ok(Some(there));
                }
                let mut status = set.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.write_status(key, set, &status).await?;
                Ok(None)
            }
            other => self.shown(other.during("making a revision")?).await.map(Some),
        }
    }

    async fn shown(&self, revision: ControllerRevision) -> Result<ControllerRevision, Error> {
        self.revisions.caught_up(revision.metadata.resource_version.as_deref().unwrap_or_default()).await?;
        Ok(revision)
    }

    async fn forget_revisions(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        current: &str,
        pods: &[Arc<PodFacts>],
    ) -> Result<(), Error> {
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let revisions = self.revisions_of(key, set);
        let old: Vec<(i64, &str, &str)> = revisions
            .iter()
            .filter_map(|one| Some((one.revision, one.metadata.name.as_deref()?, pod::hash(one)?)))
            .filter(|(.., hash)| *hash != current)
            .collect();
        let live: BTreeSet<&str> =
            pods.iter().filter_map(|pod| pod.labels.get(pod::HASH)).map(String::as_str).collect();
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), &key.namespace);
        for name in plan::forgotten(&old, &live, usize::try_from(limit).unwrap_or(0)) {
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if is_code(&error, 404) => {}
                other => other.map(drop).during("deleting an old revision")?,
            }
        }
        Ok(())
    }

    async fn write_status(&self, key: &ObjectKey, set: &DaemonSet, status: &DaemonSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(status) {
            return Ok(());
        }
        let new = DaemonSet { status: Some(status.clone()), ..set.clone() };
        let api = Api::<DaemonSet>::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &new).await {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => other.map(drop).during("writing a DaemonSet's status"),
        }
    }

    fn event(&self, set: &DaemonSet, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&regarding(set), kind, reason, message);
    }
}
