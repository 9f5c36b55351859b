//! Pods leave a node that has a NoExecute taint which they do not tolerate, or no longer. Upstream's
//! taint-eviction-controller.

mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base_tasks::{Tasks, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, Taint};
use machinery_client::kube::api::{DeleteParams, Preconditions};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, ObjectKey, Recorder, Regarding};
use tokio::time::Instant;

use self::plan::{Since, Verdict};
use crate::disruption_target;
use crate::nodes::NodeFacts;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World};

struct Controller {
    client: Client,
    world: World,
    recorder: Recorder,
    /// Pods on nodes with such taints.
    waiting: Mutex<HashMap<ObjectKey, Wait>>,
}

/// A pod that is going to leave, or tolerates its node's taints.
#[derive(Default)]
struct Wait {
    uid: String,
    since: Since,
    /// What was announced.
    leaves_at: Option<Instant>,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<ObjectKey>();
    wake(tasks, world, &queue);
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        recorder: Recorder::new(tasks, client.clone(), "taint-eviction-controller", None),
        waiting: Mutex::default(),
    });
    let ready = {
        let world = world.clone();
        async move {
            world.nodes.synced().await;
            world.pods.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    });
}

fn wake(tasks: &Tasks, world: &World, queue: &WorkQueue<ObjectKey>) {
    let nodes = world.nodes.clone();
    reconcile::wake(tasks, &world.pods, {
        let queue = queue.clone();
        move |change| match change {
            Change::Applied { key, old, new } => {
                let bound = old.as_ref().is_none_or(|old| old.node != new.node || old.tolerations != new.tolerations);
                let node = new.node.as_ref().and_then(|node| nodes.get(&ObjectKey::new("", node.clone())));
                if bound && node.is_some_and(|node| evicting(&node).next().is_some()) {
                    queue.add(key.clone());
                }
            }
            Change::Deleted { key, .. } => queue.add(key.clone()),
        }
    });
    let (queue, pods) = (queue.clone(), world.pods.clone());
    reconcile::wake(tasks, &world.nodes, move |change| {
        let (old, new) = match change {
            Change::Applied { old, new, .. } => (old.as_ref(), Some(new)),
            Change::Deleted { old, .. } => (Some(old), None),
        };
        let taints = |node: Option<&Arc<NodeFacts>>| -> Vec<Taint> {
            node.into_iter().flat_map(|node| evicting(node)).cloned().collect()
        };
        if taints(old) != taints(new) {
            let here = |_: &ObjectKey, pod: &PodFacts| pod.node.as_deref() == Some(&change.key().name);
            pods.select(here).into_iter().for_each(|(key, _)| queue.add(key));
        }
    });
}

fn evicting(node: &NodeFacts) -> impl Iterator<Item = &Taint> {
    node.taints.iter().filter(|taint| taint.effect == api::taint::NO_EXECUTE)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Again, Error> {
        let pod = self.world.pods.get(key).filter(|pod| !pod.deleting);
        let node = pod.as_ref().and_then(|pod| self.world.nodes.get(&ObjectKey::new("", pod.node.clone()?)));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.forget(key);
            return Ok(None);
        };
        let now = Instant::now();
        let mut wait = self.waiting().remove(key).filter(|wait| wait.uid == pod.uid).unwrap_or_default();
        let verdict = plan::judge(&node.taints, &pod.tolerations, &mut wait.since, now);
        let announced = std::mem::take(&mut wait.leaves_at);
        let again = match verdict {
            Verdict::Leaves => {
                self.evict(&pod).await?;
                return Ok(None);
            }
            Verdict::LeavesAt(at) => {
                wait.leaves_at = Some(at);
                // The timer of an earlier look at the same end still runs.
                (announced != Some(at)).then(|| at - now)
            }
            Verdict::Stays => {
                if announced.is_some() {
                    self.event(&pod.key, &format!("Cancelling deletion of Pod {key}"));
                }
                None
            }
        };
        if !wait.since.is_empty() {
            wait.uid = pod.uid.clone();
            self.waiting().insert(key.clone(), wait);
        }
        Ok(again)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Wait>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, key: &ObjectKey) {
        if self.waiting().remove(key).is_some_and(|wait| wait.leaves_at.is_some()) {
            self.event(key, &format!("Cancelling deletion of Pod {key}"));
        }
    }

    async fn evict(&self, pod: &PodFacts) -> Result<(), Error> {
        self.event(&pod.key, &format!("Marking for deletion Pod {}", pod.key));
        let why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        if !disruption_target::mark(&self.client, pod, why, None).await? {
            return Ok(());
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.key.namespace);
        let same = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        match api.delete(&pod.key.name, &DeleteParams::default().preconditions(same)).await {
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(()),
            other => other.map(drop).during("deleting a pod that does not tolerate its node"),
        }
    }

    fn event(&self, pod: &ObjectKey, message: &str) {
        // Upstream's names neither version nor uid of the pod.
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            ..Regarding::default()
        };
        self.recorder.event(&regarding, EventKind::Normal, "TaintManagerEviction", message);
    }
}
