//! Removes the pods that nobody else will: of nodes that are gone, of nodes that an administrator calls out of service,
//! unscheduled ones, and ended ones when there are too many. Upstream's pod-garbage-collector, woken by changes.

mod plan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{Node, Pod};
use machinery_client::kube::api::{DeleteParams, Preconditions};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, ObjectKey};

use self::plan::Verdict;
use crate::disruption_target;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World};

/// How long a node may be missing before its pods go.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods are counted at most this often.
const COUNT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pod(ObjectKey),
    /// Of a node that was not there.
    Orphans(String),
    Ended,
}

#[derive(Clone)]
struct Collector {
    client: Client,
    world: World,
    queue: WorkQueue<Key>,
    /// A count is due.
    counting: Arc<AtomicBool>,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<Key>();
    let collector =
        Collector { client: client.clone(), world: world.clone(), queue: queue.clone(), counting: Arc::default() };
    let ready = {
        let (tasks, collector) = (tasks.clone(), collector.clone());
        async move {
            collector.world.nodes.synced().await;
            collector.world.pods.synced().await;
            // Not before: a pod that comes before its node is no orphan.
            collector.wake(&tasks);
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let collector = collector.clone();
        async move { collector.collect(key).await }
    });
}

impl Collector {
    fn wake(&self, tasks: &Tasks) {
        reconcile::wake(tasks, &self.world.pods, {
            let collector = self.clone();
            move |change| {
                let Change::Applied { key, old, new: pod } = change else { return };
                match collector.judge(pod) {
                    Verdict::Leave => {}
                    Verdict::Remove => collector.queue.add(Key::Pod(key.clone())),
                    Verdict::Quarantine => {
                        if old.as_ref().is_none_or(|old| old.node != pod.node) {
                            collector.quarantine(pod.node.as_deref().unwrap_or_default());
                        }
                    }
                }
                let ended = pod.terminal() && old.as_ref().is_none_or(|old| !old.terminal());
                if ended && !collector.counting.swap(true, Ordering::AcqRel) {
                    collector.queue.add_after(Key::Ended, COUNT);
                }
            }
        });
        reconcile::wake(tasks, &self.world.nodes, {
            let collector = self.clone();
            move |change| {
                let name = &change.key().name;
                match change {
                    Change::Deleted { .. } => collector.quarantine(name),
                    Change::Applied { new: node, .. } => {
                        let out = node.taints.iter().any(|taint| taint.key == api::taint::OUT_OF_SERVICE);
                        if out {
                            for (key, _) in collector.pods_on(name) {
                                collector.queue.add(Key::Pod(key));
                            }
                        }
                    }
                }
            }
        });
    }

    fn quarantine(&self, node: &str) {
        self.queue.add_after(Key::Orphans(node.to_owned()), QUARANTINE);
    }

    fn pods_on(&self, node: &str) -> Vec<(ObjectKey, Arc<PodFacts>)> {
        self.world.pods.select(|_, pod| pod.node.as_deref() == Some(node))
    }

    fn judge(&self, pod: &PodFacts) -> Verdict {
        let node = pod.node.as_ref().and_then(|node| self.world.nodes.get(&ObjectKey::new("", node.clone())));
        plan::judge(pod, node.as_deref())
    }

    async fn collect(&self, key: Key) -> Result<Again, Error> {
        match key {
            Key::Pod(key) => {
                if let Some(pod) = self.world.pods.get(&key).filter(|pod| self.judge(pod) == Verdict::Remove) {
                    self.remove(&pod, None).await?;
                }
            }
            Key::Orphans(node) => {
                if self.world.nodes.get(&ObjectKey::new("", node.clone())).is_some() {
                    return Ok(None);
                }
                let live = Api::<Node>::all(self.client.clone()).get_opt(&node).await;
                if live.during("looking whether a node is gone")?.is_none() {
                    for (_, pod) in self.pods_on(&node) {
                        self.remove(&pod, Some(("DeletionByPodGC", "PodGC: node no longer exists"))).await?;
                    }
                }
            }
            Key::Ended => {
                self.counting.store(false, Ordering::Release);
                let pods = self.world.pods.select(|_, pod| pod.terminal()).into_iter().map(|(_, pod)| pod);
                for pod in plan::surplus(pods, plan::TERMINATED) {
                    self.remove(&pod, None).await?;
                }
            }
        }
        Ok(None)
    }

    /// Failed first, for who counts on an end; then without grace, for who would wait for a node.
    async fn remove(&self, pod: &PodFacts, why: Option<(&str, &str)>) -> Result<(), Error> {
        let there = match why {
            _ if pod.terminal() => true,
            Some(why) => disruption_target::mark(&self.client, pod, why, Some("Failed")).await?,
            None => disruption_target::fail(&self.client, pod).await?,
        };
        if !there {
            return Ok(());
        }
        tracing::info!(pod = %pod.key, node = pod.node, "removing a pod that nobody else will");
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.key.namespace);
        let same = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        match api.delete(&pod.key.name, &DeleteParams::default().grace_period(0).preconditions(same)).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            other => other.map(drop).during("removing a pod that nobody else will"),
        }
    }
}
