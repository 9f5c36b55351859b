//! Carrying out a plan's actions, and folding their outcome into the state.

use std::net::IpAddr;
use std::time::Duration;

use machinery_client::EventKind::{Normal, Warning};

use crate::container::{identifier, pod_labels, signal_number};
use crate::files;
use crate::plan::{Action, StopCause, spec_hash};
use crate::pods::create::remove_pod_files;
use crate::pods::fold::unknown_exit;
use crate::pods::worker::{Flow, Worker};
use crate::pods::{Message, image};
use crate::probe;
use crate::seams::{ContainerState, ExecSpec, Exit, Sandbox, SandboxSpec, SeamError, chain};
use crate::state::{
    BACKOFF_INITIAL, BACKOFF_MAX, CrashBackoff, Ended, Failure, Health, IMAGE_PULL_BACK_OFF, ImageRef, ImageState,
    Instance, ProbeKind, RETRY_INITIAL, RETRY_MAX, Running, SandboxState, Stage, Stopping, Volumes,
};
use crate::volumes;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// For connections whose handshake was under way when the last node withdrew the endpoint.
const HANDSHAKES: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) async fn execute(&mut self, action: Action) -> Flow {
        match action {
            Action::MountVolumes => self.mount_volumes().await,
            Action::CreateSandbox => self.create_sandbox().await,
            Action::EnsureImage { container } => self.ensure_image(&container),
            Action::AnnounceBackOff { container } => self.announce_back_off(&container),
            Action::Start { container, attempt } => self.start(&container, attempt).await,
            Action::Drain { container, withdrawal, deadline, cause } => {
                self.drain(&container, withdrawal, Stopping { deadline, stage: Stage::Draining }, cause);
            }
            Action::Signal { container, kill } => self.signal(&container, kill).await,
            Action::Hasten { container, deadline } => {
                if let Some(stop) = self.running_mut(&container).and_then(|running| running.stop.as_mut()) {
                    stop.deadline = deadline;
                }
            }
            Action::RemoveSandbox => self.remove_sandbox().await,
            Action::DeleteObject => {
                let now = self.now();
                self.report_removal(now);
            }
            Action::Finish => {
                remove_pod_files(&self.machine, self.uid(), &self.log_dir());
                return Flow::Finished;
            }
        }
        Flow::Continue
    }

    fn running_mut(&mut self, name: &str) -> Option<&mut Running> {
        match &mut self.state.containers.get_mut(name)?.instance {
            Instance::Running(running) => Some(running),
            _ => None,
        }
    }

    async fn mount_volumes(&mut self) {
        let dir = self.pod_dir().join("volumes");
        self.state.volumes = match volumes::set_up(&self.pod, &dir, &*self.machine.cluster).await {
            Ok(()) => Volumes::Mounted,
            Err((name, error)) => {
                let message = format!("MountVolume.SetUp failed for volume {name:?} : {}", chain(&error));
                self.event(None, Warning, "FailedMount", &message);
                let previous = match &self.state.volumes {
                    Volumes::Failed(failure) => Some(failure),
                    _ => None,
                };
                let bounds = (RETRY_INITIAL, RETRY_MAX);
                Volumes::Failed(Failure::after(previous, bounds, "FailedMount", message, self.now()))
            }
        };
    }

    async fn create_sandbox(&mut self) {
        let uid = self.uid().to_owned();
        let id = identifier(&[&uid, &self.now().as_nanosecond().to_string()]);
        self.machine.routes.insert(&id, self.outbox.clone());
        self.state.sandbox = match self.make_sandbox(&id).await {
            Ok(ips) => SandboxState::Ready { id, ips },
            Err(error) => {
                self.machine.routes.remove(&id);
                let message = format!("Failed to create pod sandbox: {}", chain(&error));
                self.event(None, Warning, "FailedCreatePodSandBox", &message);
                let previous = match &self.state.sandbox {
                    SandboxState::Failed(failure) => Some(failure),
                    _ => None,
                };
                let bounds = (RETRY_INITIAL, RETRY_MAX);
                SandboxState::Failed(Failure::after(previous, bounds, "FailedCreatePodSandBox", message, self.now()))
            }
        };
    }

    async fn make_sandbox(&self, id: &str) -> Result<Vec<IpAddr>, SeamError> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let sysctls = spec.security_context.and_then(|security| security.sysctls).unwrap_or_default();
        let request = SandboxSpec {
            id: id.to_owned(),
            hostname: files::hostname(&self.pod, &self.machine.config.cluster_domain).0,
            labels: pod_labels(&self.pod),
            host_network: spec.host_network == Some(true),
            host_pid: spec.host_pid == Some(true),
            host_ipc: spec.host_ipc == Some(true),
            share_process_namespace: spec.share_process_namespace == Some(true),
            sysctls: sysctls.into_iter().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
        };
        let sandbox = self.machine.runtime.create_sandbox(request).await?;
        match self.connect(&sandbox).await {
            Ok(ips) => Ok(ips),
            Err(error) => {
                if let Err(error) = self.dismantle(id).await {
                    tracing::warn!(sandbox = id, error = %chain(&error), "half-made sandbox not removed");
                }
                Err(error)
            }
        }
    }

    pub(super) async fn connect(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, SeamError> {
        let host_network = self.spec().and_then(|spec| spec.host_network) == Some(true);
        match &sandbox.netns {
            Some(netns) if !host_network => self.machine.network.attach(&sandbox.id, netns).await,
            _ => Ok(Vec::new()),
        }
    }

    async fn dismantle(&self, id: &str) -> Result<(), SeamError> {
        if self.spec().and_then(|spec| spec.host_network) != Some(true) {
            self.machine.network.detach(id).await?;
        }
        self.machine.runtime.stop_sandbox(id).await?;
        self.machine.runtime.remove_sandbox(id).await
    }

    async fn remove_sandbox(&mut self) {
        let Some(id) = self.state.sandbox.id().map(ToOwned::to_owned) else { return };
        self.state.sandbox = match self.dismantle(&id).await {
            Ok(()) => {
                self.machine.routes.remove(&id);
                SandboxState::Absent
            }
            Err(error) => {
                let message = format!("error killing pod: {}", chain(&error));
                self.event(None, Warning, "FailedKillPod", &message);
                let previous = match &self.state.sandbox {
                    SandboxState::Stuck { failure, .. } => Some(failure),
                    _ => None,
                };
                let bounds = (RETRY_INITIAL, RETRY_MAX);
                let failure = Failure::after(previous, bounds, "FailedKillPod", message, self.now());
                SandboxState::Stuck { id, failure }
            }
        };
    }

    fn ensure_image(&mut self, name: &str) {
        let Some(container) = self.container(name).cloned() else { return };
        let init = self.spec().and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let init = init.into_iter().any(|init| init.name == name);
        let record = self.state.containers.entry(name.to_owned()).or_default();
        let after = match std::mem::take(&mut record.image) {
            ImageState::Failed(failure) => Some(Box::new(failure)),
            _ => None,
        };
        record.image = ImageState::Pulling { after };
        let (machine, pod, outbox) = (self.machine.clone(), self.pod.clone(), self.outbox.clone());
        self.tasks.spawn(async move {
            let name = container.name.clone();
            let outcome = image::ensure(machine, pod, container, init).await;
            let _ = outbox.send(Message::Image { container: name, outcome });
        });
    }

    fn announce_back_off(&mut self, name: &str) {
        let image = self.container(name).and_then(|container| container.image.clone()).unwrap_or_default();
        let message = format!("Back-off pulling image {image:?}");
        self.event(Some(name), Normal, "BackOff", &message);
        self.event(Some(name), Warning, "Failed", &format!("Error: {IMAGE_PULL_BACK_OFF}"));
        let Some(record) = self.state.containers.get_mut(name) else { return };
        if let ImageState::Failed(failure) = &mut record.image {
            failure.message = format!("{message}: {}: {}", failure.reason, failure.message);
            failure.reason = IMAGE_PULL_BACK_OFF;
        }
    }

    async fn start(&mut self, name: &str, attempt: u32) {
        let Some(container) = self.container(name).cloned() else { return };
        let Some(sandbox) = self.state.sandbox.id().map(ToOwned::to_owned) else { return };
        let record = self.state.containers.entry(name.to_owned()).or_default();
        let ImageState::Present(image) = std::mem::take(&mut record.image) else { return };
        let spec = match self.container_spec(&container, attempt, &image, &sandbox).await {
            Ok(spec) => spec,
            Err(error) => return self.not_created(name, error.reason(), error.message()),
        };
        self.discard_previous(name, attempt).await;
        let runtime = self.machine.runtime.clone();
        let id = spec.id.clone();
        if let Err(error) = runtime.create_container(&sandbox, spec).await {
            // Whatever is left of it would be in the way of the next attempt.
            let _ = runtime.remove_container(&id).await;
            return self.not_created(name, "CreateContainerError", chain(&error));
        }
        self.event(Some(name), Normal, "Created", "Container created");
        let started = runtime.start_container(&id).await;
        let now = self.now();
        let image_ref = ImageRef { name: container.image.clone().unwrap_or_default(), id: image.id.clone() };
        let Some(record) = self.state.containers.get_mut(name) else { return };
        record.attempt = attempt;
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
                    stop_signal: container
                        .lifecycle
                        .as_ref()
                        .and_then(|lifecycle| lifecycle.stop_signal.clone())
                        .or_else(|| image.stop_signal.clone()),
                    started_at,
                    health: Health { started: false, ready: false, failed: None },
                    stop: None,
                });
                self.event(Some(name), Normal, "Started", "Container started");
                self.begin_probes(name);
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
                record.instance = Instance::Ended(Ended { id, image: image_ref, exit });
                // The next try waits like any crash; the image need not be asked for again before.
                record.backoff = record.backoff.or(Some(CrashBackoff { delay: BACKOFF_INITIAL, updated: now }));
                self.event(Some(name), Warning, "Failed", &format!("Error: {message}"));
            }
        }
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
            // There is none after a reboot or a failed start.
            let _ = std::fs::remove_file(self.log_dir().join(name).join(format!("{old}.log")));
        }
    }

    /// Starts the probes that apply now: the startup probe, or what comes after it.
    pub(super) fn begin_probes(&mut self, name: &str) {
        let Some(container) = self.container(name).cloned() else { return };
        match container.startup_probe.clone() {
            Some(probe) => self.spawn_probe(name, ProbeKind::Startup, probe),
            None => self.started(name),
        }
    }

    /// The container counts as started: its other probes begin.
    pub(super) fn started(&mut self, name: &str) {
        let Some(container) = self.container(name).cloned() else { return };
        let Some(running) = self.running_mut(name) else { return };
        running.health.started = true;
        if container.readiness_probe.is_none() {
            running.health.ready = true;
        }
        if let Some(probe) = container.readiness_probe {
            self.spawn_probe(name, ProbeKind::Readiness, probe);
        }
        if let Some(probe) = container.liveness_probe {
            self.spawn_probe(name, ProbeKind::Liveness, probe);
        }
    }

    fn spawn_probe(&mut self, name: &str, kind: ProbeKind, probe: k8s_openapi::api::core::v1::Probe) {
        let Some(spec) = self.container(name).cloned() else { return };
        let host_network = self.spec().and_then(|spec| spec.host_network) == Some(true);
        let pod_ip = self.state.sandbox.ips().first().copied().or(host_network.then_some(self.machine.config.node_ip));
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let container = running.id.clone();
        let running_for = Duration::try_from(now.duration_since(running.started_at)).unwrap_or_default();
        let target =
            probe::Target { runtime: self.machine.runtime.clone(), container: container.clone(), spec, pod_ip };
        let outbox = self.outbox.clone();
        let task = self.tasks.spawn(async move {
            let report = |event| {
                let _ = outbox.send(Message::Probed { container: container.clone(), kind, event });
            };
            probe::run(kind, probe, target, running_for, report).await;
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }

    /// Begins a stop: traffic is steered away and the preStop hook runs, side by side.
    fn drain(&mut self, name: &str, withdrawal: Duration, stop: Stopping, cause: StopCause) {
        let message = match cause {
            StopCause::PodDeleted | StopCause::PodCompleted => format!("Stopping container {name}"),
            StopCause::ProbeFailed(kind) => format!("Container {name} failed {} probe, will be restarted", kind.word()),
            StopCause::SpecChanged => format!("Container {name} definition changed, will be restarted"),
        };
        self.event(Some(name), Normal, "Killing", &message);
        let hook = self.container(name).and_then(|container| container.lifecycle.clone()?.pre_stop);
        let ip = self.state.sandbox.ips().first().copied();
        let now = self.now();
        let Some(running) = self.running_mut(name) else { return };
        let served = running.health.started;
        let container = running.id.clone();
        let left = Duration::try_from(stop.deadline.duration_since(now)).unwrap_or_default();
        running.stop = Some(stop);
        let (withdrawals, runtime, outbox) =
            (self.machine.withdrawals.clone(), self.machine.runtime.clone(), self.outbox.clone());
        let task = self.tasks.spawn(async move {
            let withdrawn = async {
                if let Some(ip) = ip
                    && served
                    && !withdrawal.is_zero()
                {
                    // Late is late: the signal waits no longer than the limit.
                    let _ = tokio::time::timeout(withdrawal, withdrawals.withdrawn(ip)).await;
                    tokio::time::sleep(HANDSHAKES).await;
                }
            };
            let hook = async {
                if let Some(hook) = hook
                    && !withdrawal.is_zero()
                {
                    let _ = tokio::time::timeout(left, pre_stop(&*runtime, &container, &hook)).await;
                }
            };
            tokio::join!(withdrawn, hook);
            let _ = outbox.send(Message::Drained { container });
        });
        self.attached.entry(name.to_owned()).or_default().push(task);
    }

    async fn signal(&mut self, name: &str, kill: bool) {
        let Some(running) = self.running_mut(name) else { return };
        let id = running.id.clone();
        let own = running.stop_signal.as_deref().and_then(signal_number).unwrap_or(SIGTERM);
        if let Some(stop) = running.stop.as_mut() {
            stop.stage = if kill { Stage::Killed } else { Stage::Signalled };
        }
        let signal = if kill { SIGKILL } else { own };
        if let Err(error) = self.machine.runtime.signal_container(&id, signal).await {
            tracing::debug!(container = id, signal, error = %chain(&error), "signal not delivered");
            self.recheck(&id).await;
        }
    }

    /// A container that cannot be signalled is most likely gone; the runtime knows.
    async fn recheck(&mut self, id: &str) {
        let Ok(sandboxes) = self.machine.runtime.list().await else { return };
        let found = sandboxes.into_iter().flat_map(|sandbox| sandbox.containers).find(|known| known.id == id);
        let exit = match found.map(|container| container.state) {
            Some(ContainerState::Running { .. }) => return,
            Some(ContainerState::Exited(exit)) => exit,
            Some(ContainerState::Created) | None => unknown_exit(self.now(), "The container could not be located"),
        };
        self.exited(id, exit);
    }
}

async fn pre_stop(
    runtime: &dyn crate::seams::Runtime,
    container: &str,
    hook: &k8s_openapi::api::core::v1::LifecycleHandler,
) {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    if let Some(exec) = &hook.exec {
        let args = exec.command.clone().unwrap_or_default();
        let spec = ExecSpec { args, tty: false, stdin: false, stdout: false, stderr: false };
        match runtime.exec(container, spec).await {
            Ok(streams) => {
                if let Err(error) = streams.exit.await {
                    tracing::warn!(container, error = %chain(&error), "preStop hook lost");
                }
            }
            Err(error) => tracing::warn!(container, error = %chain(&error), "preStop hook not run"),
        }
    }
}
