//! What becomes of nodes: those that are not heard of are said to be unknown, their conditions become taints, and pods of
//! a node that is gone are not ready. Upstream's node-lifecycle-controller, woken by changes and by silence.

mod conditions;
mod disruption;
mod health;
mod pods;
mod taints;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base_tasks::{Tasks, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, ObjectKey, Recorder, Regarding};
use serde_json::json;
use tokio::time::Instant;

use self::disruption::Disruption;
use self::health::Health;
use crate::nodes::{LEASES, NodeFacts, Readiness};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

const BETA_LABELS: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Node(String),
    /// All of them together: whose turn it is to lose its pods.
    Turns,
}

struct Controller {
    client: Client,
    world: World,
    recorder: Recorder,
    queue: WorkQueue<Key>,
    known: Mutex<HashMap<String, Known>>,
    disruption: Mutex<Disruption>,
}

struct Known {
    regarding: Regarding,
    health: Health,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let queue = reconcile::queue::<Key>();
    let controller = Arc::new(Controller {
        client: client.clone(),
        world: world.clone(),
        recorder: Recorder::new(tasks, client.clone(), "node-controller", None),
        queue: queue.clone(),
        known: Mutex::default(),
        disruption: Mutex::default(),
    });
    reconcile::wake(tasks, &world.nodes, {
        let controller = Arc::clone(&controller);
        move |change| controller.node_changed(change)
    });
    reconcile::wake(tasks, &world.node_leases, {
        let controller = Arc::clone(&controller);
        move |change| {
            if let Change::Applied { key, new, .. } = change
                && let Some(known) = controller.known().get_mut(&key.name)
            {
                known.health.renewed(new.renewed, Instant::now());
            }
        }
    });
    reconcile::wake(tasks, &world.pods, {
        let controller = Arc::clone(&controller);
        move |change| {
            // Bound only now, or reported by a node that is said to be gone.
            if let Change::Applied { new: pod, .. } = change
                && pod.ready()
                && let Some(node) = &pod.node
                && controller.node(node).is_some_and(|node| node.readiness() == Readiness::Unknown)
            {
                controller.queue.add(Key::Node(node.clone()));
            }
        }
    });
    let ready = {
        let controller = Arc::clone(&controller);
        async move {
            controller.world.nodes.synced().await;
            controller.world.pods.synced().await;
            controller.world.node_leases.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 2, ready, move |key| {
        let controller = Arc::clone(&controller);
        async move {
            match key {
                Key::Node(name) => controller.reconcile(&name).await,
                Key::Turns => controller.turns().await,
            }
        }
    });
}

fn heartbeat(node: &NodeFacts) -> Option<Timestamp> {
    let ready = node.condition("Ready")?;
    Some(ready.last_heartbeat_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

impl Controller {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disruption(&self) -> std::sync::MutexGuard<'_, Disruption> {
        self.disruption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, name: &str) -> Option<Arc<NodeFacts>> {
        self.world.nodes.get(&ObjectKey::new("", name))
    }

    fn event(&self, regarding: &Regarding, reason: &str, message: &str) {
        self.recorder.event(regarding, EventKind::Normal, reason, message);
    }

    fn node_changed(&self, change: &Change<NodeFacts>) {
        let (now, name) = (Instant::now(), &change.key().name);
        match change {
            Change::Applied { new: node, .. } => {
                let mut all = self.known();
                if let Some(known) = all.get_mut(name).filter(|known| known.regarding.uid == node.uid) {
                    known.health.reported(heartbeat(node), now);
                } else {
                    let age = node.created.map(|created| Timestamp::now().duration_since(created));
                    let age = age.and_then(|age| age.try_into().ok()).unwrap_or(Duration::ZERO);
                    let mut health = Health::new(heartbeat(node), age, now);
                    if let Some(lease) = self.world.node_leases.get(&ObjectKey::new(LEASES, name.clone())) {
                        health.renewed(lease.renewed, now);
                    }
                    let message = format!("Node {name} event: Registered Node {name} in Controller");
                    self.event(&node.regarding(), "RegisteredNode", &message);
                    all.insert(name.clone(), Known { regarding: node.regarding(), health });
                }
            }
            Change::Deleted { .. } => {
                if let Some(known) = self.known().remove(name) {
                    let message = format!("Node {name} event: Removing Node {name} from Controller");
                    self.event(&known.regarding, "RemovingNode", &message);
                }
            }
        }
        self.queue.add(Key::Node(name.clone()));
        self.queue.add(Key::Turns);
    }

    async fn reconcile(&self, name: &str) -> Result<Again, Error> {
        let Some(mut node) = self.node(name) else { return Ok(None) };
        let Some(silent) = self.known().get(name).map(|known| known.health.is_silent(Instant::now())) else {
            return Ok(None);
        };
        if silent && self.say_unknown(&node).await? {
            // What was read before is no longer true.
            let Some(newer) = self.node(name) else { return Ok(None) };
            node = newer;
        }
        if let Some(taints) = taints::at_once(&node, Timestamp::now()) {
            self.write_taints(&node, &taints).await?;
        }
        self.align_labels(&node).await?;
        if node.readiness() == Readiness::Unknown {
            pods::not_ready(&self.client, &self.world, &self.recorder, name).await?;
        }
        // Last of all: a timer that is set before something fails would not be waited for.
        Ok(self.known().get_mut(name).and_then(|known| known.health.arm(Instant::now())))
    }

    /// Whether that was news.
    async fn say_unknown(&self, node: &NodeFacts) -> Result<bool, Error> {
        let conditions = conditions::unknown(node, Timestamp::now());
        if conditions.is_empty() {
            return Ok(false);
        }
        // A report that comes in between wins.
        let patch = json!({
            "metadata": { "resourceVersion": node.resource_version },
            "status": { "conditions": conditions },
        });
        let api = Api::<Node>::all(self.client.clone());
        let written = api.patch_status(&node.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        self.shown(written, "saying that a node is unknown").await?;
        if node.readiness() == Readiness::Ready {
            let name = &node.name;
            self.event(&node.regarding(), "NodeNotReady", &format!("Node {name} status is now: NodeNotReady"));
        }
        Ok(true)
    }

    async fn write_taints(&self, node: &NodeFacts, taints: &[Taint]) -> Result<(), Error> {
        let patch = json!({
            "metadata": { "resourceVersion": node.resource_version },
            "spec": { "taints": taints },
        });
        let api = Api::<Node>::all(self.client.clone());
        let written = api.patch(&node.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        self.shown(written, "writing a node's taints").await
    }

    /// The older names of two labels follow the newer ones.
    async fn align_labels(&self, node: &NodeFacts) -> Result<(), Error> {
        let differs = |(new, old): &&(&str, &str)| {
            node.labels.get(*new).is_some_and(|value| node.labels.get(*old) != Some(value))
        };
        let labels: HashMap<&str, &String> =
            BETA_LABELS.iter().filter(differs).filter_map(|(new, old)| Some((*old, node.labels.get(*new)?))).collect();
        if labels.is_empty() {
            return Ok(());
        }
        let patch = json!({ "metadata": { "labels": labels } });
        let api = Api::<Node>::all(self.client.clone());
        let written = api.patch(&node.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        self.shown(written, "writing a node's labels").await
    }

    /// Waits until the informer shows what was written.
    async fn shown(&self, written: machinery_client::kube::Result<Node>, operation: &'static str) -> Result<(), Error> {
        match written {
            Err(error) if is_code(&error, 404) => Ok(()),
            other => {
                let version = other.during(operation)?.metadata.resource_version.unwrap_or_default();
                Ok(self.world.nodes.caught_up(&version).await?)
            }
        }
    }

    async fn turns(&self) -> Result<Again, Error> {
        let nodes: Vec<Arc<NodeFacts>> = self.world.nodes.list().into_iter().map(|(_, node)| node).collect();
        let now = Instant::now();
        let plan = self.disruption().plan(&nodes.iter().map(Arc::as_ref).collect::<Vec<_>>(), now);
        if plan.pardon {
            self.known().values_mut().for_each(|known| known.health.pardon(now));
        }
        for name in &plan.untaint {
            if let Some(node) = self.node(name)
                && let Some(taints) = taints::without_evicting(&node, Timestamp::now())
            {
                self.write_taints(&node, &taints).await?;
            }
        }
        for (name, zone) in &plan.taint {
            if let Some(node) = self.node(name)
                && let Some(taints) = taints::with_evicting(&node, Timestamp::now())
            {
                self.write_taints(&node, &taints).await?;
                self.disruption().tainted(zone, now);
            }
        }
        Ok(plan.again)
    }
}
