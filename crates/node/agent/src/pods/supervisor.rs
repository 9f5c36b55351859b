//! Which pods have a worker: follows the node's pods in the API, and carries runtime events to the workers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery_client::{Change, Informer, ObjectKey};
use tokio::sync::{mpsc, watch};

use crate::pods::classes::Classes;
use crate::pods::create::remove_dir;
use crate::pods::worker::Worker;
use crate::pods::{Machine, Message};
use crate::seams::{Resources, RuntimeEvent, Sandbox, SeamError, chain, label};
use crate::static_pods::{self, Manifests, mirrored};

pub struct Supervisor {
    tasks: Tasks,
    machine: Arc<Machine>,
    classes: Classes,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    ended: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    statics: HashMap<ObjectKey, Running>,
}

/// A static pod that has a worker.
struct Running {
    pod: Arc<Pod>,
    /// Its file is gone, or has another pod by now.
    ending: bool,
}

/// What happens on this node alone.
struct Local {
    manifests: watch::Receiver<Manifests>,
    events: mpsc::UnboundedReceiver<RuntimeEvent>,
    trouble: watch::Receiver<Option<String>>,
}

enum Happened {
    Runtime(RuntimeEvent),
    NetworkReady,
    Manifests,
    /// The worker of that uid.
    Ended(String),
}

impl Local {
    /// `None` when nothing will happen any more.
    async fn next(&mut self, ended: &mut mpsc::UnboundedReceiver<String>) -> Option<Happened> {
        loop {
            let happened = tokio::select! {
                Some(event) = self.events.recv() => Happened::Runtime(event),
                Some(uid) = ended.recv() => Happened::Ended(uid),
                Ok(()) = self.manifests.changed() => Happened::Manifests,
                Ok(()) = self.trouble.changed() => Happened::NetworkReady,
                else => return None,
            };
            match happened {
                Happened::NetworkReady if self.trouble.borrow_and_update().is_some() => {}
                Happened::Manifests => {
                    self.manifests.mark_unchanged();
                    return Some(happened);
                }
                _ => return Some(happened),
            }
        }
    }
}

/// As if the API had been asked to delete it, with the time that it gives itself.
fn deleted(pod: &Pod, now: jiff::Timestamp) -> Pod {
    let mut pod = pod.clone();
    let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let seconds = std::time::Duration::from_secs(u64::try_from(grace).unwrap_or_default());
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod.metadata.deletion_timestamp = Some(Time(crate::state::later(now, seconds)));
    pod
}

/// What is kept of a pod: all but the managed fields.
pub fn project(mut pod: Pod) -> Option<Arc<Pod>> {
    pod.metadata.managed_fields = None;
    if mirrored(&pod).is_none()
        && let Some(annotations) = &mut pod.metadata.annotations
    {
        // Only a file of this node makes a pod its own.
        annotations.remove(static_pods::SOURCE);
    }
    pod.metadata.uid.as_ref()?;
    Some(Arc::new(pod))
}

impl Supervisor {
    /// `all`: what bounds all pods together.
    pub fn new(tasks: &Tasks, machine: Arc<Machine>, all: Resources) -> Self {
        let tasks = tasks.child("pods");
        let classes = Classes::start(&tasks, Arc::clone(&machine.runtime), all);
        let (workers, statics) = (HashMap::new(), HashMap::new());
        Self { tasks, machine, classes, workers, ended: mpsc::unbounded_channel(), statics }
    }

    /// Adopts what runs, removes what no pod owns any more, then follows both worlds. Static pods wait for no API.
    pub async fn run(
        mut self,
        pods: Informer<Arc<Pod>>,
        mut manifests: watch::Receiver<Manifests>,
        events: mpsc::UnboundedReceiver<RuntimeEvent>,
    ) -> Result<(), SeamError> {
        let mut left: HashMap<String, Vec<Sandbox>> = HashMap::new();
        let mut live = Vec::new();
        for sandbox in self.machine.runtime.list().await? {
            live.push(sandbox.id.clone());
            if sandbox.is_foreign() {
                continue;
            }
            let uid = sandbox.labels.get(label::POD_UID).cloned().unwrap_or_default();
            left.entry(uid).or_default().push(sandbox);
        }
        // Before the first worker runs: what it attaches from here on is not in the list.
        if let Err(error) = self.machine.network.reconcile(&live).await {
            tracing::error!(error = %chain(&error), "addresses of removed sandboxes not freed");
        }
        let first = manifests.borrow_and_update().clone();
        self.manifests(first, &mut left);
        let mut local = Local { manifests, events, trouble: self.machine.network.trouble() };
        let synced = pods.clone();
        let synced = async move { synced.synced().await };
        tokio::pin!(synced);
        loop {
            tokio::select! {
                () = &mut synced => break,
                happened = local.next(&mut self.ended.1) => {
                    let Some(happened) = happened else { return Ok(()) };
                    self.locally(happened, &local, &mut left);
                }
            }
        }
        let mut changes = pods.subscribe();
        let known = pods.list();
        let mut uids: HashSet<_> = known.iter().filter_map(|(_, pod)| pod.metadata.uid.clone()).collect();
        uids.extend(self.workers.keys().cloned());
        let strangers: Vec<_> = left.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        let strangers = strangers.iter().filter_map(|uid| left.remove(uid)).flatten().collect();
        self.remove_strangers(strangers, &uids).await;
        for (_, pod) in known {
            self.updated(Arc::clone(&pod), &mut left);
        }
        loop {
            tokio::select! {
                Some(change) = changes.recv() => self.changed(change),
                happened = local.next(&mut self.ended.1) => {
                    let Some(happened) = happened else { return Ok(()) };
                    self.locally(happened, &local, &mut left);
                }
            }
        }
    }

    fn locally(&mut self, happened: Happened, local: &Local, left: &mut HashMap<String, Vec<Sandbox>>) {
        match happened {
            Happened::Runtime(event) => self.happened(event),
            Happened::NetworkReady => self.network_ready(),
            Happened::Manifests => {
                let wanted = local.manifests.borrow().clone();
                self.manifests(wanted, left);
            }
            Happened::Ended(uid) => {
                self.workers.remove(&uid);
                self.classes.ended(&uid);
                self.machine.collector.look();
                // The next version of a static pod comes when the one before is gone.
                let wanted = local.manifests.borrow().clone();
                self.manifests(wanted, left);
            }
        }
    }

    /// Starts the static pods that there are to be, and ends the others.
    fn manifests(&mut self, wanted: Manifests, left: &mut HashMap<String, Vec<Sandbox>>) {
        self.statics.retain(|key, running| {
            let uid = running.pod.metadata.uid.clone().unwrap_or_default();
            let Some(worker) = self.workers.get(&uid) else { return false };
            let same = wanted.get(key).is_some_and(|pod| pod.metadata.uid == running.pod.metadata.uid);
            if !same && !running.ending {
                let _ = worker.send(Message::Updated(Arc::new(deleted(&running.pod, self.machine.clock.now()))));
                running.ending = true;
            }
            true
        });
        for (key, pod) in wanted {
            // The version before must be gone.
            if let Entry::Vacant(entry) = self.statics.entry(key) {
                entry.insert(Running { pod: Arc::clone(&pod), ending: false });
                self.updated(pod, left);
            }
        }
    }

    fn changed(&mut self, change: Change<Arc<Pod>>) {
        match change {
            Change::Applied { old, new, .. } => {
                if let Some(hash) = mirrored(&new) {
                    // What it shows must be told to it, once.
                    let before = old.is_some_and(|old| old.metadata.uid == new.metadata.uid);
                    let shown = self.statics.values().find(|running| static_pods::hash(&running.pod) == Some(hash));
                    let worker = shown.and_then(|running| self.workers.get(running.pod.metadata.uid.as_deref()?));
                    if let Some(worker) = worker.filter(|_| !before) {
                        let _ = worker.send(Message::Mirrored);
                    }
                    return;
                }
                // Deleted and created again between two looks.
                if let Some(old) = old.filter(|old| old.metadata.uid != new.metadata.uid) {
                    self.gone(&old);
                }
                self.updated(Arc::clone(&new), &mut HashMap::new());
            }
            Change::Deleted { old, .. } => self.gone(&old),
        }
    }

    fn updated(&mut self, pod: Arc<Pod>, left: &mut HashMap<String, Vec<Sandbox>>) {
        if mirrored(&pod).is_some() {
            return;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.classes.seen(&uid, &pod);
        if let Some(worker) = self.workers.get(&uid) {
            // It may just have ended: then the pod is gone, too.
            let _ = worker.send(Message::Updated(pod));
            return;
        }
        let sandboxes = left.remove(&uid).unwrap_or_default();
        let channel = mpsc::unbounded_channel();
        for sandbox in &sandboxes {
            // Before the next runtime event is carried: an exit in between must not be lost.
            self.machine.routes.insert(&sandbox.id, channel.0.clone());
        }
        self.workers.insert(uid.clone(), channel.0.clone());
        let worker = Worker::new(Arc::clone(&self.machine), pod, channel);
        let ended = self.ended.0.clone();
        self.tasks.spawn("pod", async move {
            Box::pin(worker.run(sandboxes)).await;
            let _ = ended.send(uid);
        });
    }

    fn gone(&self, pod: &Pod) {
        // A pod in its place may come before its worker hears of it.
        self.machine.capacity.release(pod.metadata.uid.as_deref().unwrap_or_default());
        if let Some(worker) = pod.metadata.uid.as_ref().and_then(|uid| self.workers.get(uid)) {
            let _ = worker.send(Message::Gone);
        }
    }

    fn network_ready(&self) {
        for worker in self.workers.values() {
            // It may just have ended.
            let _ = worker.send(Message::NetworkReady);
        }
    }

    fn happened(&self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::ContainerExited { sandbox, container, exit } => {
                self.machine.routes.send(&sandbox, Message::Exited { container, exit });
            }
            RuntimeEvent::SandboxLost { sandbox } => self.machine.routes.send(&sandbox, Message::SandboxLost),
        }
    }

    /// Sandboxes and directories of pods that were removed from the API while no agent ran.
    async fn remove_strangers(&self, strangers: Vec<Sandbox>, pods: &HashSet<String>) {
        let machine = &self.machine;
        for sandbox in strangers {
            tracing::info!(sandbox = sandbox.id, "removing the sandbox of a pod that is gone");
            let detached = machine.network.detach(&sandbox.id).await;
            let stopped = machine.runtime.stop_sandbox(&sandbox.id).await;
            let removed = machine.runtime.remove_sandbox(&sandbox.id).await;
            for error in [detached, stopped, removed].into_iter().filter_map(Result::err) {
                tracing::warn!(sandbox = sandbox.id, error = %chain(&error), "left-over sandbox not removed");
            }
        }
        let stranger = |name: &str| !pods.contains(name);
        // Their containers are gone by now; drivers take as long as they take.
        let left = machine.csi.strangers(|uid| pods.contains(uid));
        self.tasks.spawn("volumes-left", Arc::clone(&machine.csi).release_left(left));
        remove_dirs(&machine.config.data_dir.join("pods"), &stranger);
        // `<namespace>_<name>_<uid>`: none of the three may contain an underscore.
        remove_dirs(&machine.config.logs_dir(), &|name| name.rsplit('_').next().is_none_or(stranger));
    }
}

fn remove_dirs(parent: &std::path::Path, stranger: &dyn Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(parent) else { return }; // made with the first pod
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(stranger)
            && let Err(error) = remove_dir(&entry.path())
        {
            tracing::warn!(dir = %entry.path().display(), %error, "left-over pod directory not removed");
        }
    }
}
