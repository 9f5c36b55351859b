//! What happened, folded into the state.

use base_sys::crash;
use machinery_client::EventKind;

use crate::plan::spec_hash;
use crate::pods::worker::Worker;
use crate::pods::{ImageOutcome, Message};
use crate::probe::ProbeEvent;
use crate::restart::{self, again};
use crate::seams::Exit;
use crate::state::{
    BACKOFF_INITIAL, BACKOFF_MAX, CrashBackoff, Ended, Failure, ImageState, Instance, PostStart, ProbeKind,
    RETRY_INITIAL, RETRY_MAX, Removal, Running, SandboxState, Stage,
};
use crate::static_pods::is_static;

impl Worker {
    pub(super) fn fold(&mut self, message: Message) {
        match message {
            Message::Updated(pod) => self.updated(pod),
            // What it asks is taken for it; the worker looks anew.
            Message::RoomMade => {}
            Message::Gone => {
                let now = self.now();
                self.state.termination = crate::plan::deleted(&self.pod, self.state.termination.as_ref(), true, now);
            }
            Message::Mirrored => self.status.forget(),
            Message::Exited { container, exit } => self.exited(&container, exit),
            Message::SandboxLost => self.sandbox_lost(),
            Message::NetworkReady => {
                if matches!(self.state.sandbox, SandboxState::Failed(_)) {
                    // What it failed for may be over: it need not wait for its turn.
                    self.state.sandbox = SandboxState::Absent;
                }
            }
            Message::Ended(ending) => self.end(ending),
            Message::Probed { container, kind, event } => self.probed(&container, kind, event),
            Message::Image { container, outcome } => self.image(&container, outcome),
            Message::PostStarted { container, outcome } => self.post_started(&container, outcome),
            Message::Drained { container, hook } => self.drained(&container, hook),
            Message::Mounted(outcome) => self.mounted(outcome),
            Message::Released(outcome) => self.released(outcome),
            Message::StatusWritten(result) => {
                crash::point("status written");
                let now = self.now();
                self.status.written(result.as_ref().ok().copied(), now);
                if let Err(error) = result {
                    tracing::warn!(pod = %self.state.full_name, %error, "pod status not written; will retry");
                }
            }
            Message::Deleted(Err(error)) => {
                tracing::warn!(pod = %self.state.full_name, %error, "pod object not deleted; will retry");
                let previous = match &self.state.removal {
                    Removal::Failed(failure) => Some(failure),
                    _ => None,
                };
                let failure = Failure::after(previous, (RETRY_INITIAL, RETRY_MAX), "Delete", error, self.now());
                self.state.removal = Removal::Failed(failure);
            }
            // There is no object whose deletion would be reported.
            Message::Deleted(Ok(())) if is_static(&self.pod) => self.fold(Message::Gone),
            Message::Deleted(Ok(())) => {}
        }
    }

    /// By the runtime's id: an exit of an older instance changes nothing.
    pub(super) fn exited(&mut self, id: &str, mut exit: Exit) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let found = self.state.containers.iter_mut().find_map(|(name, record)| match &record.instance {
            Instance::Running(running) if running.id == id => Some((name.clone(), running.clone(), record)),
            _ => None,
        });
        let Some((name, running, record)) = found else { return };
        crash::point("container ended");
        exit.started_at = exit.started_at.or(Some(running.started_at));
        let finished_at = exit.finished_at;
        let attempt = record.attempt;
        let now_is = restart::find(&spec, &name).map(|container| spec_hash(&container));
        let anew = running.stop.is_some() && now_is.is_some_and(|hash| hash != running.spec_hash);
        record.instance = Instance::Ended(Ended { id: running.id, image: running.image, exit, anew });
        let delay = CrashBackoff::restart_at(record.backoff, finished_at) > finished_at;
        for task in self.attached.remove(&name).into_iter().flatten() {
            task.abort();
        }
        self.read_termination_message(&name, attempt);
        if delay && self.will_restart(&name) {
            let message = format!("Back-off restarting failed container {name} in pod {}", self.state.full_name);
            self.event(Some(&name), EventKind::Warning, "BackOff", &message);
        }
    }

    fn will_restart(&self, name: &str) -> bool {
        let (Some(container), Some(spec)) = (self.container(name), self.spec()) else { return false };
        let Some(Instance::Ended(ended)) = self.state.containers.get(name).map(|record| &record.instance) else {
            return false;
        };
        self.state.termination.is_none() && self.state.failure.is_none() && again(spec, &container, ended)
    }

    /// Its shim is gone, and with it every container.
    fn sandbox_lost(&mut self) {
        let SandboxState::Ready { id, .. } = &self.state.sandbox else { return };
        let id = id.clone();
        self.state.sandbox = SandboxState::Lost { id };
        let running: Vec<_> = self
            .state
            .containers
            .values()
            .filter_map(|record| match &record.instance {
                Instance::Running(running) => Some(running.id.clone()),
                _ => None,
            })
            .collect();
        let now = self.now();
        for id in running {
            self.exited(&id, unknown_exit(now, "The container's sandbox was lost"));
        }
        if self.state.termination.is_none() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.event(None, EventKind::Normal, "SandboxChanged", message);
        }
    }

    /// The instance of that id, while it runs, and its container's name.
    fn running_of(&mut self, id: &str) -> Option<(String, &mut Running)> {
        self.state.containers.iter_mut().find_map(|(name, record)| match &mut record.instance {
            Instance::Running(running) if running.id == id => Some((name.clone(), running)),
            _ => None,
        })
    }

    fn post_started(&mut self, id: &str, outcome: Result<(), String>) {
        let Some((name, running)) = self.running_of(id) else { return };
        if let Err(error) = outcome {
            running.post_start = PostStart::Failed;
            self.hook_failed(&name, "FailedPostStartHook", "PostStartHook failed", &error);
        } else {
            running.post_start = PostStart::Done;
            self.begin_probes(&name);
        }
    }

    fn drained(&mut self, id: &str, hook: Result<(), String>) {
        let Some((name, running)) = self.running_of(id) else { return };
        if let Some(stop) = running.stop.as_mut()
            && stop.stage == Stage::Draining
        {
            stop.stage = Stage::Drained;
        }
        if let Err(error) = hook {
            self.hook_failed(&name, "FailedPreStopHook", "PreStopHook failed", &error);
        }
    }

    /// The cause is told in the log alone: it may quote a command's output.
    fn hook_failed(&self, name: &str, reason: &str, message: &str, error: &str) {
        tracing::warn!(pod = %self.state.full_name, container = name, error, "{message}");
        self.event(Some(name), EventKind::Warning, reason, message);
    }

    fn probed(&mut self, id: &str, kind: ProbeKind, event: ProbeEvent) {
        let Some((name, running)) = self.running_of(id) else { return };
        match (kind, event) {
            (_, ProbeEvent::Failed(output)) => {
                let message = format!("{} probe failed: {output}", kind.title());
                self.event(Some(&name), EventKind::Warning, "Unhealthy", &message);
            }
            (ProbeKind::Readiness, ProbeEvent::Settled(ready)) => running.health.ready = ready,
            (ProbeKind::Startup, ProbeEvent::Settled(true)) => self.started(&name),
            (ProbeKind::Liveness, ProbeEvent::Settled(true)) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, ProbeEvent::Settled(false)) => {
                running.health.failed = Some(kind);
            }
        }
    }

    fn image(&mut self, name: &str, outcome: ImageOutcome) {
        let now = self.now();
        let Some(record) = self.state.containers.get_mut(name) else { return };
        let ImageState::Pulling { after } = std::mem::take(&mut record.image) else { return };
        record.image = match outcome.result {
            Ok(image) => ImageState::Present(image),
            Err((reason, message)) => {
                let bounds = (BACKOFF_INITIAL, BACKOFF_MAX);
                ImageState::Failed(Failure::after(after.as_deref(), bounds, reason, message, now))
            }
        };
    }
}

/// Upstream's stand-in for an exit nobody saw.
pub(crate) fn unknown_exit(now: jiff::Timestamp, message: &str) -> Exit {
    Exit {
        exit_code: 137,
        signal: None,
        oom_killed: false,
        started_at: None,
        finished_at: now,
        reason: Some("ContainerStatusUnknown".into()),
        message: message.into(),
    }
}
