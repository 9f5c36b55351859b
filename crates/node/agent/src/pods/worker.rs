//! One pod's worker: fold what happened into the state, plan, execute, report; sleep until the next event.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use machinery_client::{EventKind, ObjectKey};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::Report;
use crate::eviction::Ending;
use crate::plan;
use crate::pods::report::StatusWriter;
use crate::pods::{Machine, Message, View};
use crate::resize::{self, Allocated};
use crate::restart;
use crate::seams::Sandbox;
use crate::state::{PodFailure, PodState, later};
use crate::status;
use crate::volumes::Made;

pub struct Worker {
    pub(super) machine: Arc<Machine>,
    /// The pod that is run: with what its containers were given.
    pub(super) pod: Arc<Pod>,
    /// The object as it is.
    pub(super) wanted: Arc<Pod>,
    pub(super) allocated: Allocated,
    pub(super) state: PodState,
    pub(super) inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) outbox: mpsc::UnboundedSender<Message>,
    /// Pulls, probes, drains and writes under way; they answer through the outbox and die with the worker.
    pub(super) tasks: JoinSet<()>,
    /// Probes and drains of the running instance, by container.
    pub(super) attached: BTreeMap<String, Vec<AbortHandle>>,
    /// The pod's volumes as they were made, by name.
    pub(super) volumes: BTreeMap<String, Made>,
    /// The volumes are being made.
    pub(super) mounting: Option<AbortHandle>,
    /// Who keep volumes up to date.
    pub(super) keepers: Vec<AbortHandle>,
    pub(super) status: StatusWriter,
    pub(super) view: watch::Sender<View>,
}

/// Whether the worker goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Finished,
}

impl Worker {
    pub fn new(
        machine: Arc<Machine>,
        pod: Arc<Pod>,
        (outbox, inbox): (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
    ) -> Self {
        let full_name = full_name(&pod);
        let started_at = Some(machine.clock.now());
        let (view, viewer) = watch::channel(View { pod: Arc::clone(&pod), ..View::default() });
        machine.pods.insert(ObjectKey::of(&*pod), viewer, outbox.clone());
        let status = StatusWriter::new(&pod);
        let runtime = machine.config.versions.runtime_name().to_owned();
        let state = PodState { full_name, runtime, started_at, ..PodState::default() };
        let (tasks, attached, keepers) = (JoinSet::new(), BTreeMap::new(), Vec::new());
        let (volumes, mounting) = (BTreeMap::new(), None);
        let wanted = Arc::clone(&pod);
        let allocated = pod.spec.as_ref().map(resize::allocated).unwrap_or_default();
        Self {
            machine,
            pod,
            wanted,
            allocated,
            state,
            inbox,
            outbox,
            tasks,
            attached,
            volumes,
            mounting,
            keepers,
            status,
            view,
        }
    }

    /// Lives as long as anything of the pod does. `sandboxes` are what an earlier agent left of it.
    pub async fn run(mut self, sandboxes: Vec<Sandbox>) {
        self.adopt(sandboxes).await;
        self.admit().await;
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                self.fold(message);
            }
            let now = self.now();
            self.observe(now);
            let plan = plan::plan(&self.pod, &self.state, now);
            if plan.actions.is_empty() {
                self.publish(now);
                let retry_at = self.status.retry_at();
                self.wait(plan.wake_at.into_iter().chain(retry_at).min()).await;
                continue;
            }
            for action in plan.actions {
                if self.execute(action).await == Flow::Finished {
                    self.machine.capacity.release(self.uid());
                    self.machine.pods.remove(&ObjectKey::of(&*self.pod), self.pod.metadata.uid.as_deref());
                    return;
                }
            }
        }
    }

    /// What follows from the object and the state without an action.
    fn observe(&mut self, now: Timestamp) {
        let gone = self.state.termination.as_ref().is_some_and(|termination| termination.object_gone);
        self.state.termination = plan::deleted(&self.pod, self.state.termination.as_ref(), gone, now);
        self.expire(now);
        if let Some(spec) = &self.pod.spec {
            self.state.terminal = status::terminal(spec, &self.state);
        }
        if self.state.terminal.is_some() {
            self.keepers.drain(..).for_each(|keeper| keeper.abort());
            self.machine.capacity.release(self.uid());
        }
        self.allocate(now);
    }

    /// Fails the pod once it has had its time.
    fn expire(&mut self, now: Timestamp) {
        let until = self.pod.spec.as_ref().and_then(|spec| plan::active_until(spec, &self.state));
        let ends = self.state.termination.is_some() || self.state.terminal.is_some() || self.state.failure.is_some();
        if !ends && until.is_some_and(|until| now >= until) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.event(None, EventKind::Normal, "DeadlineExceeded", message);
            self.state.failure = Some(PodFailure::new("DeadlineExceeded", message));
        }
    }

    /// Ends the pod for the node's sake. One that ends already has no more time than that.
    pub(super) fn end(&mut self, ending: Ending) {
        let Ending { reason, message, event, grace, disrupted } = ending;
        let now = self.now();
        let state = &mut self.state;
        if let Some((termination, grace)) = state.termination.as_mut().zip(grace) {
            termination.deadline = termination.deadline.min(later(now, grace));
        }
        if state.termination.is_some() || state.terminal.is_some() || state.failure.is_some() {
            return;
        }
        if let Some(annotations) = event {
            let report = Report { container: None, kind: EventKind::Warning, reason, message: &message };
            self.machine.cluster.report_annotated(&self.pod, &report, annotations);
        }
        state.failure = Some(PodFailure { reason: reason.into(), message, grace, disrupted });
    }

    /// Fails a pod of which nothing has been made.
    pub(super) fn reject(&mut self, reason: &str, message: &str) {
        self.event(None, EventKind::Warning, reason, message);
        let message = format!("Pod was rejected: {message}");
        self.state.failure = Some(PodFailure::new(reason, message));
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>) {
        let timer = async {
            match wake_at {
                Some(at) => {
                    let left = at.duration_since(self.machine.clock.now());
                    let left = std::time::Duration::try_from(left).unwrap_or_default();
                    // A whole millisecond up: the timer must not fire before the time it waits for.
                    tokio::time::sleep(left + std::time::Duration::from_millis(1)).await;
                }
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = self.inbox.recv() => message,
            Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(pod = %self.state.full_name, %error, "a pod task panicked");
                }
                None
            }
            () = timer => None,
        };
        if let Some(message) = message {
            self.fold(message);
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.machine.clock.now()
    }

    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn pod_dir(&self) -> PathBuf {
        self.machine.config.pod_dir(self.uid())
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        let key = ObjectKey::of(&*self.pod);
        self.machine.config.logs_dir().join(format!("{}_{}_{}", key.namespace, key.name, self.uid()))
    }

    pub(super) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(super) fn container(&self, name: &str) -> Option<Container> {
        Some(restart::find(self.spec()?, name)?.into_owned())
    }

    /// Reports an Event about the pod or one of its containers.
    pub(super) fn event(&self, container: Option<&str>, kind: EventKind, reason: &str, message: &str) {
        self.machine.cluster.report(&self.pod, &Report { container, kind, reason, message });
    }
}

/// `name_namespace(uid)`.
fn full_name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}
