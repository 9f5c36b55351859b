//! Has volumes of drivers attached to the nodes whose pods want them, and detached again. Upstream's attach-detach
//! controller; drivers' external attachers do what the VolumeAttachments say.
//!
//! ```text
//! pod on a node ─▶ VolumeAttachment ─▶ attacher: status.attached ─▶ node.status.volumesAttached ─▶ the node stages
//! last pod gone ─▶ node.status.volumesInUse without it ─▶ volumesAttached without it ─▶ VolumeAttachment deleted
//! ```

mod plan;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base_tasks::{Tasks, WorkQueue};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use machinery_client::kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder, informer};
use serde_json::json;

use self::plan::{Attachment, NodeState, PATIENCE, Plan, Wanted};
use crate::nodes::{NodeFacts, Readiness};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::{PodFacts, World};

const FAILED: &str = "FailedAttachVolume";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Node(String),
    /// An attachment that is attached now, or has failed: its pods are told.
    Tell(String),
}

/// Whether volumes of the driver must be attached.
#[derive(Debug, PartialEq, Eq)]
struct DriverFacts {
    attach: bool,
}

#[derive(Clone)]
struct Controller {
    client: Client,
    world: World,
    attachments: Informer<Attachment>,
    drivers: Informer<DriverFacts>,
    recorder: Recorder,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// Since when an attachment is unwanted.
    unwanted: HashMap<String, Instant>,
    /// Attachments whose pods have been told that another node has the volume.
    blocked: HashSet<String>,
}

impl Attachment {
    fn of(object: VolumeAttachment) -> Self {
        let status = object.status.unwrap_or_default();
        Self {
            name: object.metadata.name.unwrap_or_default(),
            node: object.spec.node_name,
            volume: object.spec.source.persistent_volume_name,
            attached: status.attached,
            deleting: object.metadata.deletion_timestamp.is_some(),
            error: status.attach_error.and_then(|error| error.message),
        }
    }
}

pub fn start(tasks: &Tasks, client: &Client, world: &World) {
    let all = Api::<VolumeAttachment>::all(client.clone());
    let attachments = informer(tasks, all, Config::default(), |object| Some(Attachment::of(object)));
    let drivers = informer(tasks, Api::<CSIDriver>::all(client.clone()), Config::default(), |driver| {
        Some(DriverFacts { attach: driver.spec.attach_required != Some(false) })
    });
    let recorder = Recorder::new(tasks, client.clone(), "attachdetach-controller", None);
    let (client, world, memory) = (client.clone(), world.clone(), Arc::default());
    let controller = Controller { client, world, attachments, drivers, recorder, memory };
    let queue = reconcile::queue::<Key>();
    let ready = {
        let (tasks, queue, controller) = (tasks.clone(), queue.clone(), controller.clone());
        async move {
            let world = &controller.world;
            world.pods.synced().await;
            world.nodes.synced().await;
            world.claims.synced().await;
            world.volumes.synced().await;
            controller.drivers.synced().await;
            controller.attachments.synced().await;
            // Not before: what is not known yet is not unwanted.
            controller.wake(&tasks, &queue);
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |key| {
        let controller = controller.clone();
        async move {
            match key {
                Key::Node(node) => controller.reconcile(&node).await,
                Key::Tell(attachment) => {
                    controller.tell(&attachment);
                    Ok(None)
                }
            }
        }
    });
}

impl Controller {
    fn wake(&self, tasks: &Tasks, queue: &WorkQueue<Key>) {
        let all = || queue.clone();
        reconcile::wake(tasks, &self.world.pods, {
            let queue = all();
            move |change| {
                let (old, new) = sides(change);
                for pod in old.into_iter().chain(new).filter(|pod| !pod.claims.is_empty()) {
                    pod.node.iter().for_each(|node| queue.add(Key::Node(node.clone())));
                }
            }
        });
        reconcile::wake(tasks, &self.world.nodes, {
            let queue = all();
            move |change| {
                let said = |node: &NodeFacts| (node.volumes_in_use.clone(), node.volumes_attached.clone());
                let (old, new) = sides(change);
                let health = |node: &NodeFacts| (node.readiness(), is_over(Some(node)));
                if old.map(said) != new.map(said) || old.map(health) != new.map(health) {
                    queue.add(Key::Node(change.key().name.clone()));
                }
            }
        });
        reconcile::wake(tasks, &self.attachments, {
            let (queue, controller) = (all(), self.clone());
            move |change| {
                let (old, new) = sides(change);
                old.into_iter().chain(new).for_each(|attachment| queue.add(Key::Node(attachment.node.clone())));
                let outcome = |attachment: &Attachment| (attachment.attached, attachment.error.clone());
                if let (Some(old), Some(new)) = (old, new)
                    && outcome(old) != outcome(new)
                {
                    queue.add(Key::Tell(new.name.clone()));
                }
                if new.is_none() {
                    // Another node may wait for it.
                    controller.nodes().for_each(|node| queue.add(Key::Node(node)));
                }
            }
        });
        let (queue, controller) = (all(), self.clone());
        reconcile::wake(tasks, &self.drivers, {
            let (queue, controller) = (queue.clone(), controller.clone());
            move |_| controller.nodes().for_each(|node| queue.add(Key::Node(node)))
        });
        reconcile::wake(tasks, &self.world.claims, move |change| {
            let (old, new) = sides(change);
            if old.map(|claim| &claim.volume) != new.map(|claim| &claim.volume) {
                let key = change.key();
                let uses = |pod: &ObjectKey, facts: &PodFacts| {
                    pod.namespace == key.namespace && facts.claims.contains(&key.name)
                };
                let nodes = controller.world.pods.select(uses).into_iter().filter_map(|(_, pod)| pod.node.clone());
                nodes.for_each(|node| queue.add(Key::Node(node)));
            }
        });
    }

    fn nodes(&self) -> impl Iterator<Item = String> {
        self.world.nodes.list().into_iter().map(|(key, _)| key.name)
    }

    /// The volume of a claim, where it must be attached to a node.
    fn attachable(&self, claim: &ObjectKey, node: &str) -> Option<Wanted> {
        let claim = self.world.claims.get(claim).filter(|claim| claim.bind_completed)?;
        let volume = self.world.volumes.get(&ObjectKey::new("", claim.volume.clone()?))?;
        let api::csi::Handle { driver, handle } = volume.driver.clone()?;
        if self.drivers.get(&ObjectKey::new("", driver.clone())).is_some_and(|driver| !driver.attach) {
            return None;
        }
        Some(Wanted {
            volume: volume.name.clone(),
            unique_name: api::csi::unique_name(&driver, &handle),
            attachment: api::csi::attachment(&handle, &driver, node),
            driver,
            exclusive: !volume.modes.is_empty()
                && !volume.modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany"),
        })
    }

    /// With the pods that want it.
    fn wanted(&self, node: &str) -> Vec<(Wanted, Arc<PodFacts>)> {
        let here = |_: &ObjectKey, pod: &PodFacts| pod.node.as_deref() == Some(node) && !pod.terminal();
        let pods = self.world.pods.select(here).into_iter();
        pods.flat_map(|(key, pod)| {
            let claims = pod.claims.iter().map(|claim| ObjectKey::new(key.namespace.clone(), claim.clone()));
            let wanted: Vec<_> = claims.filter_map(|claim| self.attachable(&claim, node)).collect();
            wanted.into_iter().map(move |wanted| (wanted, Arc::clone(&pod)))
        })
        .collect()
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, node: &str) -> Result<Again, Error> {
        let facts = self.world.nodes.get(&ObjectKey::new("", node));
        let wanted = self.wanted(node);
        let all: Vec<_> = self.attachments.list().into_iter().map(|(_, attachment)| (*attachment).clone()).collect();
        let state = state(node, facts.as_deref());
        let volumes: BTreeSet<_> = wanted.iter().map(|(wanted, _)| wanted.clone()).collect();
        let now = Instant::now();
        let plan = {
            let memory = self.memory();
            let since = |name: &str| memory.unwanted.get(name).map_or(Duration::ZERO, |since| now - *since);
            plan::plan(&state, &volumes, &all, since)
        };
        self.remember(&plan, &volumes, &wanted, now);
        if let Some(facts) = &facts
            && facts.volumes_attached != plan.attached
        {
            // Before anything is detached: the node does not begin to use it.
            self.say(node, &plan.attached).await?;
        }
        for name in &plan.detach {
            let api = Api::<VolumeAttachment>::all(self.client.clone());
            match api.delete(name, &DeleteParams::default()).await {
                Err(error) if is_code(&error, 404) => {}
                other => drop(other.during("deleting a VolumeAttachment")?),
            }
        }
        for one in &plan.attach {
            self.attach(node, one).await?;
        }
        Ok((!plan.awaited.is_empty() && !state.healthy).then_some(PATIENCE))
    }

    /// What the next look must know; and pods are told once that another node has their volume.
    fn remember(&self, plan: &Plan, volumes: &BTreeSet<Wanted>, wanted: &[(Wanted, Arc<PodFacts>)], now: Instant) {
        let mut memory = self.memory();
        for name in &plan.awaited {
            memory.unwanted.entry(name.clone()).or_insert(now);
        }
        for name in plan.detach.iter().chain(volumes.iter().map(|one| &one.attachment)) {
            memory.unwanted.remove(name);
        }
        for one in volumes.difference(&plan.blocked.iter().cloned().collect()) {
            memory.blocked.remove(&one.attachment);
        }
        for one in &plan.blocked {
            if memory.blocked.insert(one.attachment.clone()) {
                let message = format!(
                    "Multi-Attach error for volume {:?} Volume is already exclusively attached to one node and can't be \
                     attached to another",
                    one.volume
                );
                let pods = wanted.iter().filter(|(wanted, _)| wanted == one);
                pods.for_each(|(_, pod)| self.event(pod, EventKind::Warning, FAILED, &message));
            }
        }
    }

    async fn say(&self, node: &str, attached: &BTreeSet<String>) -> Result<(), Error> {
        let attached: Vec<_> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let patch = Patch::Merge(json!({"status": {"volumesAttached": attached}}));
        let api = Api::<Node>::all(self.client.clone());
        match api.patch_status(node, &PatchParams::default(), &patch).await {
            Ok(written) => {
                let version = written.metadata.resource_version.unwrap_or_default();
                Ok(self.world.nodes.caught_up(&version).await?)
            }
            Err(error) if is_code(&error, 404) => Ok(()),
            Err(error) => Err(error).during("saying what is attached to a node"),
        }
    }

    async fn attach(&self, node: &str, wanted: &Wanted) -> Result<(), Error> {
        let object = VolumeAttachment {
            metadata: ObjectMeta { name: Some(wanted.attachment.clone()), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: wanted.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(wanted.volume.clone()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        };
        let api = Api::<VolumeAttachment>::all(self.client.clone());
        match api.create(&PostParams::default(), &object).await {
            Ok(made) => {
                let version = made.metadata.resource_version.unwrap_or_default();
                Ok(self.attachments.caught_up(&version).await?)
            }
            Err(error) if is_code(&error, 409) => Ok(()),
            Err(error) => Err(error).during("creating a VolumeAttachment"),
        }
    }

    /// The pods that wait for it, how it went.
    fn tell(&self, attachment: &str) {
        let Some(found) = self.attachments.get(&ObjectKey::new("", attachment)) else { return };
        let volume = found.volume.as_deref().unwrap_or_default();
        let (kind, reason, message) = match &found.error {
            _ if found.attached => {
                let message = format!("AttachVolume.Attach succeeded for volume {volume:?} ");
                (EventKind::Normal, "SuccessfulAttachVolume", message)
            }
            Some(error) => {
                (EventKind::Warning, FAILED, format!("AttachVolume.Attach failed for volume {volume:?} : {error}"))
            }
            None => return,
        };
        let pods = self.wanted(&found.node).into_iter().filter(|(wanted, _)| wanted.attachment == attachment);
        pods.for_each(|(_, pod)| self.event(&pod, kind, reason, &message));
    }

    fn event(&self, pod: &PodFacts, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&pod.regarding(), kind, reason, message);
    }
}

/// What there was, and what there is.
fn sides<P>(change: &Change<P>) -> (Option<&P>, Option<&P>) {
    match change {
        Change::Applied { old, new, .. } => (old.as_deref(), Some(new)),
        Change::Deleted { old, .. } => (Some(old), None),
    }
}

fn is_over(node: Option<&NodeFacts>) -> bool {
    node.is_none_or(|node| node.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE))
}

fn state(name: &str, node: Option<&NodeFacts>) -> NodeState {
    let in_use = node.into_iter().flat_map(|node| &node.volumes_in_use).filter_map(|unique_name| {
        let api::csi::Handle { driver, handle } = api::csi::parse_unique_name(unique_name)?;
        Some((unique_name.clone(), api::csi::attachment(&handle, &driver, name)))
    });
    NodeState {
        name: name.to_owned(),
        in_use: in_use.collect(),
        over: is_over(node),
        healthy: node.is_some_and(|node| node.readiness() == Readiness::Ready),
    }
}
