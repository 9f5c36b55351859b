//! Bringing one container up: its image, an instance, its probes.

use std::time::Duration;

use base_sys::crash;
use k8s_openapi::api::core::v1::{Container, ContainerUser, LinuxContainerUser, Probe};
use machinery_client::EventKind::{Normal, Warning};

use crate::handler::Target;
use crate::hook;
use crate::plan::spec_hash;
use crate::pods::worker::Worker;
use crate::pods::{Message, image};
use crate::probe::{self, ProbeEvent};
use crate::seams::{Exit, chain};
use crate::state::{
    BACKOFF_INITIAL, BACKOFF_MAX, CrashBackoff, Ended, Failure, Health, IMAGE_PULL_BACK_OFF, ImageRef, ImageState,
    Instance, PostStart, ProbeKind, RETRY_INITIAL, RETRY_MAX, Running, Volumes,
};

impl Worker {
    pub(super) fn ensure_image(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let record = self.state.containers.entry(name.to_owned()).or_default();
        let after = match std::mem::take(&mut record.image) {
            ImageState::Failed(failure) => Some(Box::new(failure)),
            _ => None,
        };
        record.image = ImageState::Pulling { after };
        let (machine, pod, outbox) = (self.machine.clone(), self.pod.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            let name = container.name.clone();
            let outcome = image::ensure(machine, pod, container).await;
            let _ = outbox.send(Message::Image { container: name, outcome });
        });
    }

    pub(super) fn announce_back_off(&mut self, name: &str) {
        let image = self.container(name).and_then(|container| container.image).unwrap_or_default();
        self.event_of_back_off(Some(name), &image);
        let Some(record) = self.state.containers.get_mut(name) else { return };
        if let ImageState::Failed(failure) = &mut record.image {
            backing_off(failure, &image);
        }
    }

    pub(super) fn announce_volume_back_off(&mut self) {
        let Volumes::NoImage { image, failure } = &mut self.state.volumes else { return };
        let image = image.clone();
        backing_off(failure, &image);
        self.event_of_back_off(None, &image);
    }

    fn event_of_back_off(&self, container: Option<&str>, image: &str) {
        self.event(container, Normal, "BackOff", &back_off(image));
        self.event(container, Warning, "Failed", &format!("Error: {IMAGE_PULL_BACK_OFF}"));
    }

    pub(super) async fn start(&mut self, name: &str, attempt: u32) {
        let Some(container) = self.container(name) else { return };
        let Some(sandbox) = self.state.sandbox.id().map(ToOwned::to_owned) else { return };
        let record = self.state.containers.entry(name.to_owned()).or_default();
        let ImageState::Present(image) = std::mem::take(&mut record.image) else { return };
        let spec = match self.container_spec(&container, attempt, &image, &sandbox).await {
            Ok(spec) => spec,
            Err(error) => return self.not_created(name, error.reason(), error.message()),
        };
        self.discard_previous(name, attempt).await;
        let runtime = self.machine.runtime.clone();
        let proposed = spec.id.clone();
        let id = match runtime.create_container(&sandbox, spec).await {
            Ok(id) => id,
            Err(error) => {
                // Whatever is left of it would be in the way of the next attempt.
                let _ = runtime.remove_container(&proposed).await;
                return self.not_created(name, "CreateContainerError", chain(&error));
            }
        };
        crash::point("container created");
        self.event(Some(name), Normal, "Created", "Container created");
        let started = runtime.start_container(&id).await;
        let user = if started.is_ok() { self.user_of(&id).await } else { None };
        crash::point("container started");
        let now = self.now();
        let image_ref = ImageRef { name: container.image.clone().unwrap_or_default(), id: image.id.clone() };
        let Some(record) = self.state.containers.get_mut(name) else { return };
        record.attempt = attempt;
        record.user = user;
        record.failure = None;
        if let Instance::Ended(ended) = std::mem::take(&mut record.instance) {
            record.backoff = Some(CrashBackoff::next(record.backoff, now));
            record.previous = Some(ended);
        }
        match started {
            Ok(started_at) => {
                record.instance = Instance::Running(Running {
                    id,
                    image: image_ref,
                    spec_hash: spec_hash(&container),
                    resources: container.resources.clone().unwrap_or_default(),
                    stop_signal: container
                        .lifecycle
                        .as_ref()
                        .and_then(|lifecycle| lifecycle.stop_signal.clone())
                        .or_else(|| image.stop_signal.clone()),
                    started_at,
                    post_start: PostStart::Pending,
                    health: Health { started: false, ready: false, failed: None },
                    stop: None,
                });
                self.event(Some(name), Normal, "Started", "Container started");
                self.post_start(name);
            }
            Err(error) => {
                let message = chain(&error);
                let exit = Exit {
                    exit_code: 128,
                    signal: None,
                    oom_killed: false,
                    started_at: None,
                    finished_at: now,
                    reason: Some("StartError".into()),
                    message: message.clone(),
                };
                record.instance = Instance::Ended(Ended { id, image: image_ref, exit, anew: false });
                // The next try waits like any crash; the image need not be asked for again before.
                record.backoff = record.backoff.or(Some(CrashBackoff { delay: BACKOFF_INITIAL, updated: now }));
                self.event(Some(name), Warning, "Failed", &format!("Error: {message}"));
            }
        }
    }

    /// Nothing hangs on it but a line of the status.
    pub(super) async fn user_of(&self, id: &str) -> Option<ContainerUser> {
        let user = self.machine.runtime.container_user(id).await;
        let user =
            user.inspect_err(|error| tracing::warn!(error = %chain(error), "who a container runs as is not told"));
        user.ok().flatten().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid.into(),
                gid: user.gid.into(),
                supplemental_groups: Some(user.groups.into_iter().map(Into::into).collect()),
            }),
        })
    }

    fn not_created(&mut self, name: &str, reason: &'static str, message: String) {
        self.event(Some(name), Warning, "Failed", &format!("Error: {message}"));
        let now = self.now();
        let record = self.state.containers.entry(name.to_owned()).or_default();
        let bounds = (RETRY_INITIAL * 2, BACKOFF_MAX.min(RETRY_MAX));
        record.failure = Some(Failure::after(record.failure.as_ref(), bounds, reason, message, now));
    }

    /// The instance before is only kept for its log, and the one before that not even for it.
    async fn discard_previous(&mut self, name: &str, attempt: u32) {
        let previous = match self.state.containers.get(name).map(|record| &record.instance) {
            Some(Instance::Ended(ended)) if !ended.id.is_empty() => Some(ended.id.clone()),
            _ => None,
        };
        if let Some(id) = previous
            && let Err(error) = self.machine.runtime.remove_container(&id).await
        {
            tracing::warn!(container = id, error = %chain(&error), "ended container not removed");
        }
        if let Some(old) = attempt.checked_sub(2) {
            crate::logs::remove(&self.log_dir().join(name).join(format!("{old}.log")));
        }
    }

    /// Runs the postStart hook; the probes begin after it.
    fn post_start(&mut self, name: &str) {
        let Some(target) = self.target(name) else { return };
        let hook = target.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone());
        let Some(hook) = hook else {
            let container = target.container;
            return self.fold(Message::PostStarted { container, outcome: Ok(()) });
        };
        let outbox = self.outbox.clone();
        let task = self.tasks.spawn(async move {
            let outcome = hook::run(&hook, &target).await;
            let _ = outbox.send(Message::PostStarted { container: target.container, outcome });
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }

    /// The running instance as probes and hooks find it.
    pub(super) fn target(&mut self, name: &str) -> Option<Target> {
        let spec = self.container(name)?;
        let host_network = self.spec().and_then(|spec| spec.host_network) == Some(true);
        let pod_ip =
            self.state.sandbox.ips().first().copied().or(host_network.then_some(self.machine.config.node_ips.primary));
        let runtime = self.machine.runtime.clone();
        let container = self.running_mut(name)?.id.clone();
        Some(Target { runtime, container, spec, pod_ip })
    }

    /// Starts the probes that apply now: the startup probe, or what comes after it.
    pub(super) fn begin_probes(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        match container.startup_probe.clone() {
            Some(probe) => self.spawn_probe(name, ProbeKind::Startup, probe),
            None => self.started(name),
        }
    }

    /// The container counts as started: its other probes begin.
    pub(super) fn started(&mut self, name: &str) {
        let Some(container) = self.container(name) else { return };
        let Some(running) = self.running_mut(name) else { return };
        running.health.started = true;
        let ports = tcp_ports(&container);
        match container.readiness_probe {
            Some(probe) => self.spawn_probe(name, ProbeKind::Readiness, probe),
            None if ports.is_empty() => running.health.ready = true,
            None => self.await_opening(name, ports),
        }
        if let Some(probe) = container.liveness_probe {
            self.spawn_probe(name, ProbeKind::Liveness, probe);
        }
    }

    /// In place of a readiness probe.
    fn await_opening(&mut self, name: &str, ports: Vec<u16>) {
        let Some(sandbox) = self.state.sandbox.id().map(ToOwned::to_owned) else { return };
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let container = running.id.clone();
        let running_for = Duration::try_from(now.duration_since(running.started_at)).unwrap_or_default();
        let (runtime, outbox) = (self.machine.runtime.clone(), self.outbox.clone());
        let task = self.tasks.spawn(async move {
            probe::opening::run(runtime, sandbox, ports, running_for).await;
            let (kind, event) = (ProbeKind::Readiness, ProbeEvent::Settled(true));
            let _ = outbox.send(Message::Probed { container, kind, event });
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }

    fn spawn_probe(&mut self, name: &str, kind: ProbeKind, probe: Probe) {
        let Some(target) = self.target(name) else { return };
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let container = running.id.clone();
        let running_for = Duration::try_from(now.duration_since(running.started_at)).unwrap_or_default();
        let outbox = self.outbox.clone();
        let task = self.tasks.spawn(async move {
            let report = |event| {
                let _ = outbox.send(Message::Probed { container: container.clone(), kind, event });
            };
            probe::run(kind, probe, target, running_for, report).await;
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }
}

fn back_off(image: &str) -> String {
    format!("Back-off pulling image {image:?}")
}

/// From the failure to the wait for the next try.
fn backing_off(failure: &mut Failure, image: &str) {
    failure.message = format!("{}: {}: {}", back_off(image), failure.reason, failure.message);
    failure.reason = IMAGE_PULL_BACK_OFF;
}

/// Where its programs say that they listen.
fn tcp_ports(container: &Container) -> Vec<u16> {
    let ports = container.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect()
}
