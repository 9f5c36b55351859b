//! Which pods have a worker: follows the node's pods in the API, and carries runtime events to the workers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::{Change, Informer};
use tokio::sync::mpsc;

use crate::pods::classes::Classes;
use crate::pods::create::remove_dir;
use crate::pods::worker::Worker;
use crate::pods::{Machine, Message};
use crate::seams::{Resources, RuntimeEvent, Sandbox, SeamError, chain, label};

pub struct Supervisor {
    tasks: Tasks,
    machine: Arc<Machine>,
    classes: Classes,
    workers: HashMap<String, mpsc::UnboundedSender<Message>>,
    ended: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

/// What is kept of a pod: all but the managed fields.
pub fn project(mut pod: Pod) -> Option<Arc<Pod>> {
    pod.metadata.managed_fields = None;
    pod.metadata.uid.as_ref()?;
    Some(Arc::new(pod))
}

impl Supervisor {
    /// `all`: what bounds all pods together.
    pub fn new(tasks: &Tasks, machine: Arc<Machine>, all: Resources) -> Self {
        let tasks = tasks.child("pods");
        let classes = Classes::start(&tasks, Arc::clone(&machine.runtime), all);
        Self { tasks, machine, classes, workers: HashMap::new(), ended: mpsc::unbounded_channel() }
    }

    /// Adopts what runs, removes what no pod owns any more, then follows both worlds.
    pub async fn run(
        mut self,
        pods: Informer<Arc<Pod>>,
        mut events: mpsc::UnboundedReceiver<RuntimeEvent>,
    ) -> Result<(), SeamError> {
        pods.synced().await;
        let mut changes = pods.subscribe();
        let mut left: HashMap<String, Vec<Sandbox>> = HashMap::new();
        for sandbox in self.machine.runtime.list().await? {
            let uid = sandbox.labels.get(label::POD_UID).cloned().unwrap_or_default();
            left.entry(uid).or_default().push(sandbox);
        }
        let known = pods.list();
        let uids: HashSet<_> = known.iter().filter_map(|(_, pod)| pod.metadata.uid.clone()).collect();
        let strangers: Vec<_> = left.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        let strangers = strangers.iter().filter_map(|uid| left.remove(uid)).flatten().collect();
        self.remove_strangers(strangers, &uids).await;
        // Before the first worker runs: what it attaches from here on is not in the list.
        let live: Vec<_> = left.values().flatten().map(|sandbox| sandbox.id.clone()).collect();
        if let Err(error) = self.machine.network.reconcile(&live).await {
            tracing::error!(error = %chain(&error), "addresses of removed sandboxes not freed");
        }
        for (_, pod) in known {
            self.updated(Arc::clone(&pod), &mut left);
        }
        let mut trouble = self.machine.network.trouble();
        loop {
            tokio::select! {
                Ok(()) = trouble.changed() => {
                    if trouble.borrow_and_update().is_none() {
                        self.network_ready();
                    }
                }
                Some(change) = changes.recv() => self.changed(change),
                Some(event) = events.recv() => self.happened(event),
                Some(uid) = self.ended.1.recv() => {
                    self.workers.remove(&uid);
                    self.classes.ended(&uid);
                    self.machine.collector.look();
                }
                else => return Ok(()),
            }
        }
    }

    fn changed(&mut self, change: Change<Arc<Pod>>) {
        match change {
            Change::Applied { old, new, .. } => {
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
