//! A foreign runtime, over the CRI, as [`Runtime`]. See README.md beside this file.

mod config;
mod images;
mod logs;
mod network;
mod state;
mod stream;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base_tasks::Tasks;
use jiff::Timestamp;
use node_grpc::messages::cri;
use node_grpc::{Code, Message};
use node_oci::Groups;
use tokio::sync::{mpsc, watch as value};

use crate::adapter::runtime::{limits, usage};
use crate::adapter::{dial, listening};
use crate::config::RuntimeFeatures;
use crate::seams::{
    Connection, ContainerSpec, ContainerState, ContainerUsage, ContainerUser, DiskUsage, ExecSpec, Resources, Runtime,
    RuntimeEvent, Sandbox, SandboxSpec, SandboxUsage, SeamError, Seccomp, Streams, Usage, Walk, label,
};
use crate::stats;
pub use images::CriImages;
pub use network::CriNetwork;
use watch::Follow;

/// As upstream's `runtimeRequestTimeout`, and twice that for a sandbox, whose image may have to be pulled.
const REQUEST: Duration = Duration::from_secs(120);
const SANDBOX: Duration = Duration::from_secs(240);
/// A stop that waits for whoever decides that it has taken long enough: ten years, in seconds.
const PATIENT: i64 = 315_360_000;
const SIGKILL: i32 = 9;

/// Where a service of a runtime is asked.
#[derive(Clone, Debug)]
pub struct Endpoint(PathBuf);

impl Endpoint {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self(socket.into())
    }

    async fn ask<A: Message + Default>(
        &self,
        operation: &'static str,
        (method, subject): (&str, &str),
        request: &impl Message,
        within: Duration,
    ) -> Result<A, SeamError> {
        let answer = node_grpc::call(&self.0, method, request, within).await;
        answer.map_err(|status| SeamError::new(operation, subject, status))
    }
}

/// Whether the runtime said that there is no such thing.
fn is_not_found(error: &SeamError) -> bool {
    error.source.downcast_ref::<node_grpc::Status>().is_some_and(|status| status.code == Code::NotFound)
}

/// What is gone already is stopped and removed.
fn gone_is_done(result: Result<(), SeamError>) -> Result<(), SeamError> {
    match result {
        Err(error) if is_not_found(&error) => Ok(()),
        other => other,
    }
}

/// What a runtime says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `containerd://1.6.20`.
    pub version: String,
    /// Where it reads which CNI plug-ins it calls, and where they are; `None` where it does not tell.
    pub cni: Option<(PathBuf, PathBuf)>,
    pub features: RuntimeFeatures,
}

/// What of a sandbox does not change.
struct Known {
    config: cri::PodSandboxConfig,
    netns: Option<PathBuf>,
    pid: Option<u32>,
    created_at: Timestamp,
    ips: Vec<std::net::IpAddr>,
}

impl Known {
    /// The pod's cgroup, below the data directory's.
    fn group(&self) -> String {
        config::group(&self.config)
    }
}

pub struct CriRuntime {
    core: Arc<Core>,
    tasks: Tasks,
}

struct Core {
    endpoint: Endpoint,
    groups: Groups,
    /// The agent's part of the data directory: what logs below it is ours.
    data_dir: PathBuf,
    sandboxes: Mutex<HashMap<String, Arc<Known>>>,
    /// Of containers, once they run.
    states: Mutex<HashMap<String, ContainerState>>,
    follow: mpsc::UnboundedSender<Follow>,
    trouble: value::Sender<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks a runtime what it is.
///
/// # Errors
/// When it does not answer, or puts containers where the node cannot bound their pod.
pub async fn facts(endpoint: &Endpoint) -> Result<Facts, SeamError> {
    let subject = &*endpoint.0.to_string_lossy();
    let version: cri::VersionResponse =
        endpoint.ask("ask for the version of", (cri::VERSION, subject), &"0.1.0".to_owned(), REQUEST).await?;
    let own: Result<cri::RuntimeConfigResponse, _> =
        endpoint.ask("ask for the configuration of", (cri::RUNTIME_CONFIG, subject), &(), REQUEST).await;
    // Older ones do not say.
    let driver = own.ok().and_then(|own| own.linux).map(|linux| linux.cgroup_driver);
    if driver == Some(cri::CgroupDriver::Systemd as i32) {
        return Err(SeamError::new(
            "use",
            subject,
            "it uses the systemd driver of cgroups; only cgroupfs is supported",
        ));
    }
    let status: cri::StatusResponse =
        endpoint.ask("ask for the status of", (cri::STATUS, subject), &true, REQUEST).await?;
    let cri::VersionResponse { runtime_name, runtime_version, .. } = version;
    // Some say it with Go's `v`.
    let runtime_version = runtime_version.trim_start_matches('v');
    Ok(Facts {
        version: format!("{runtime_name}://{runtime_version}"),
        cni: state::cni(&status.info),
        features: state::features(&status),
    })
}

impl CriRuntime {
    /// `groups`: the data directory's cgroups.
    pub fn new(
        endpoint: Endpoint,
        groups: Groups,
        data_dir: PathBuf,
        tasks: &Tasks,
    ) -> (Self, mpsc::UnboundedReceiver<RuntimeEvent>) {
        let (follow, follows) = mpsc::unbounded_channel();
        let (events, receiver) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            endpoint,
            groups,
            data_dir,
            sandboxes: Mutex::default(),
            states: Mutex::default(),
            follow,
            trouble: value::Sender::new(None),
        });
        tasks.spawn("runtime-events", watch::run(Arc::clone(&core), follows, events));
        (Self { core, tasks: tasks.child("runtime") }, receiver)
    }

    /// Why the runtime cannot connect pods, while that is so.
    pub fn trouble(&self) -> value::Receiver<Option<String>> {
        self.core.trouble.subscribe()
    }

    /// Stops and removes everything of this data directory.
    pub async fn remove_all(&self) -> Result<(), SeamError> {
        for sandbox in self.core.listed_sandboxes().await? {
            self.stop_sandbox(&sandbox.id).await?;
            self.remove_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }
}

impl Core {
    /// Those of this data directory.
    async fn listed_sandboxes(&self) -> Result<Vec<cri::PodSandbox>, SeamError> {
        self.sandboxes_of(BTreeMap::new()).await
    }

    async fn sandboxes_of(&self, label_selector: BTreeMap<String, String>) -> Result<Vec<cri::PodSandbox>, SeamError> {
        let filter = cri::PodSandboxFilter { label_selector, ..Default::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let list = self.endpoint.ask("list", (cri::LIST_POD_SANDBOX, "sandboxes"), &request, REQUEST).await;
        let list: cri::ListPodSandboxResponse = list?;
        let ours = |sandbox: &cri::PodSandbox| config::is_below(&sandbox.annotations, &self.data_dir);
        Ok(list.items.into_iter().filter(ours).collect())
    }

    async fn listed_containers(&self) -> Result<Vec<cri::Container>, SeamError> {
        let request = cri::ListContainersRequest::default();
        let list: cri::ListContainersResponse =
            self.endpoint.ask("list", (cri::LIST_CONTAINERS, "containers"), &request, REQUEST).await?;
        Ok(list.containers)
    }

    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatusResponse, SeamError> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        self.endpoint.ask("find sandbox", (cri::POD_SANDBOX_STATUS, id), &request, REQUEST).await
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatusResponse, SeamError> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        self.endpoint.ask("find container", (cri::CONTAINER_STATUS, id), &request, REQUEST).await
    }

    async fn known(&self, id: &str) -> Result<Arc<Known>, SeamError> {
        if let Some(known) = locked(&self.sandboxes).get(id) {
            return Ok(Arc::clone(known));
        }
        let answer = self.sandbox_status(id).await?;
        let status = answer.status.unwrap_or_default();
        let config = config::kept(&status.annotations)
            .ok_or_else(|| SeamError::new("find sandbox", id, "it was not made by this node"))?;
        let known = Arc::new(Known {
            config,
            netns: state::netns(&answer.info),
            pid: state::pid(&answer.info),
            created_at: state::timestamp(status.created_at),
            ips: state::ips(&status),
        });
        locked(&self.sandboxes).insert(id.to_owned(), Arc::clone(&known));
        Ok(known)
    }

    /// The state of a container that has been started; it is followed if it runs.
    async fn state(&self, sandbox: &str, id: &str) -> Result<ContainerState, SeamError> {
        let answer = self.container_status(id).await?;
        let state = state::container(&answer.status.unwrap_or_default());
        if let ContainerState::Running { .. } = state {
            let pid = state::pid(&answer.info);
            // The follower lives as long as the node.
            let _ = self.follow.send(Follow::Container { sandbox: sandbox.to_owned(), container: id.to_owned(), pid });
        }
        if state != ContainerState::Created {
            locked(&self.states).insert(id.to_owned(), state.clone());
        }
        Ok(state)
    }

    async fn sandbox(&self, listed: cri::PodSandbox, containers: &[cri::Container]) -> Result<Sandbox, SeamError> {
        let known = self.known(&listed.id).await?;
        let ready = listed.state == cri::PodSandboxState::Ready as i32;
        if ready {
            let _ = self.follow.send(Follow::Sandbox { sandbox: listed.id.clone(), pid: known.pid });
        }
        let mut own = Vec::new();
        for container in containers.iter().filter(|container| container.pod_sandbox_id == listed.id) {
            let seen = locked(&self.states).get(&container.id).cloned();
            let state = match seen {
                Some(seen) if state::agrees(&seen, container.state) => seen,
                _ => match self.state(&listed.id, &container.id).await {
                    Err(error) if is_not_found(&error) => continue,
                    state => state?,
                },
            };
            own.push(crate::seams::Container { id: container.id.clone(), labels: container.labels.clone(), state });
        }
        Ok(Sandbox {
            netns: known.netns.clone(),
            ready,
            created_at: known.created_at,
            containers: own,
            labels: listed.labels,
            users: None,
            id: listed.id,
        })
    }

    fn netns(known: &Known) -> PathBuf {
        known.netns.clone().unwrap_or_else(|| PathBuf::from("/proc/self/ns/net"))
    }

    /// What is written in the writable layers of containers.
    async fn layers(&self) -> Result<HashMap<String, DiskUsage>, SeamError> {
        let request = cri::ListContainerStatsRequest::default();
        let list: cri::ListContainerStatsResponse =
            self.endpoint.ask("read", (cri::LIST_CONTAINER_STATS, "what containers use"), &request, REQUEST).await?;
        let layers = list.stats.into_iter().filter_map(|stats| {
            let layer = stats.writable_layer?;
            let usage = DiskUsage {
                bytes: layer.used_bytes.unwrap_or_default(),
                inodes: layer.inodes_used.unwrap_or_default(),
            };
            Some((stats.attributes?.id, usage))
        });
        Ok(layers.collect())
    }

    async fn used(&self, group: &str) -> Result<Option<Usage>, SeamError> {
        let used = self.groups.usage(group).await;
        Ok(used.map_err(|error| SeamError::new("read what is used in", group, error))?.map(usage))
    }
}

/// A seccomp profile for the moment in which the runtime reads it.
struct Profile(PathBuf);

impl Profile {
    fn write(dir: &Path, id: &str, profile: &serde_json::Value) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{id}.json"));
        std::fs::write(&path, profile.to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn list(&self) -> Result<Vec<Sandbox>, SeamError> {
        let sandboxes = self.core.listed_sandboxes().await?;
        let containers = self.core.listed_containers().await?;
        let mut all = Vec::with_capacity(sandboxes.len());
        for listed in sandboxes {
            match self.core.sandbox(listed, &containers).await {
                // Gone meanwhile.
                Err(error) if is_not_found(&error) => {}
                sandbox => all.push(sandbox?),
            }
        }
        Ok(all)
    }

    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox, SeamError> {
        let core = &self.core;
        let name = spec.labels.get(label::POD_NAME).cloned().unwrap_or_default();
        let uid = spec.labels.get(label::POD_UID).cloned().unwrap_or_default();
        let before = core.sandboxes_of([(label::POD_UID.to_owned(), uid)].into()).await?;
        let before = before.iter().filter_map(|sandbox| Some(sandbox.metadata.as_ref()?.attempt)).max();
        let config = config::sandbox(&spec, before.map_or(0, |last| last + 1), &core.groups);
        let made = core.groups.limit(&config::group(&config), limits(spec.resources)).await;
        made.map_err(|error| SeamError::new("limit the cgroup of pod", &*name, error))?;
        let request = cri::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        let run = core.endpoint.ask("create sandbox", (cri::RUN_POD_SANDBOX, &name), &request, SANDBOX).await;
        let id: cri::RunPodSandboxResponse = run?;
        let listed = cri::PodSandbox { id: id.clone(), labels: spec.labels, ..Default::default() };
        let sandbox = core.sandbox(listed, &[]).await;
        if sandbox.is_err() {
            // Nobody would know of it.
            let _ = self.stop_sandbox(&id).await;
            let _ = self.remove_sandbox(&id).await;
        }
        sandbox
    }

    async fn stop_sandbox(&self, sandbox: &str) -> Result<(), SeamError> {
        let core = &self.core;
        let _ = core.follow.send(Follow::Nothing { sandbox: sandbox.to_owned() });
        let id = sandbox.to_owned();
        gone_is_done(core.endpoint.ask("stop sandbox", (cri::STOP_POD_SANDBOX, sandbox), &id, REQUEST).await)
    }

    async fn remove_sandbox(&self, sandbox: &str) -> Result<(), SeamError> {
        let core = &self.core;
        let known = match core.known(sandbox).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            known => known?,
        };
        let id = sandbox.to_owned();
        gone_is_done(core.endpoint.ask("remove sandbox", (cri::REMOVE_POD_SANDBOX, sandbox), &id, REQUEST).await)?;
        locked(&core.sandboxes).remove(sandbox);
        // Another sandbox of the pod keeps it.
        if let Err(error) = core.groups.remove(&known.group()).await {
            tracing::debug!(sandbox, error = crate::seams::chain(&error), "cgroup of a pod not removed");
        }
        Ok(())
    }

    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<String, SeamError> {
        let core = &self.core;
        let known = core.known(sandbox).await?;
        let profile = match &spec.security.seccomp {
            Some(Seccomp::Profile(profile)) => {
                let written = Profile::write(&core.data_dir.join("seccomp-in-use"), &spec.id, profile);
                Some(written.map_err(|error| SeamError::new("write the seccomp profile of", &*spec.name, error))?)
            }
            _ => None,
        };
        let config = config::container(&spec, &known.config, profile.as_ref().map(|profile| &*profile.0));
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(known.config.clone()),
        };
        core.endpoint.ask("create container", (cri::CREATE_CONTAINER, &spec.name), &request, REQUEST).await
    }

    async fn start_container(&self, id: &str) -> Result<Timestamp, SeamError> {
        let core = &self.core;
        let () = core.endpoint.ask("start container", (cri::START_CONTAINER, id), &id.to_owned(), REQUEST).await?;
        let filter = cri::ContainerFilter { id: id.to_owned(), ..Default::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let found: cri::ListContainersResponse =
            core.endpoint.ask("find container", (cri::LIST_CONTAINERS, id), &request, REQUEST).await?;
        let sandbox = found.containers.into_iter().next().map(|found| found.pod_sandbox_id).unwrap_or_default();
        match core.state(&sandbox, id).await? {
            ContainerState::Running { started_at } => Ok(started_at),
            ContainerState::Exited(exit) => {
                // So that its end is told.
                let (container, pid) = (id.to_owned(), None);
                let _ = core.follow.send(Follow::Container { sandbox, container, pid });
                Ok(exit.started_at.unwrap_or(exit.finished_at))
            }
            ContainerState::Created => Err(SeamError::new("start container", id, "the runtime says that it was not")),
        }
    }

    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), SeamError> {
        let timeout = if signal == SIGKILL { 0 } else { PATIENT };
        let within = Duration::from_secs(timeout.unsigned_abs()) + REQUEST;
        let (endpoint, container) = (self.core.endpoint.clone(), id.to_owned());
        // It answers when the container has ended, which is told otherwise.
        self.tasks.spawn("stop-container", async move {
            let request = cri::StopContainerRequest { container_id: container.clone(), timeout };
            let subject = (cri::STOP_CONTAINER, &*container);
            let stopped: Result<(), _> = endpoint.ask("stop container", subject, &request, within).await;
            if let Err(error) = gone_is_done(stopped) {
                tracing::warn!(container, error = crate::seams::chain(&error), "container not stopped");
            }
        });
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), SeamError> {
        let core = &self.core;
        let removed = core.endpoint.ask("remove container", (cri::REMOVE_CONTAINER, id), &id.to_owned(), REQUEST).await;
        gone_is_done(removed)?;
        locked(&core.states).remove(id);
        Ok(())
    }

    async fn container_user(&self, id: &str) -> Result<Option<ContainerUser>, SeamError> {
        let status = self.core.container_status(id).await?.status.unwrap_or_default();
        Ok(state::user(&status))
    }

    async fn resize_container(&self, id: &str, resources: &Resources) -> Result<(), SeamError> {
        let linux = config::resources(resources);
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        self.core.endpoint.ask("resize container", (cri::UPDATE_CONTAINER_RESOURCES, id), &request, REQUEST).await
    }

    async fn resize_sandbox(&self, id: &str, resources: &Resources) -> Result<(), SeamError> {
        let group = self.core.known(id).await?.group();
        let changed = self.core.groups.change(&group, limits(resources.clone())).await;
        changed.map_err(|error| SeamError::new("resize sandbox", id, error))
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Streams, SeamError> {
        let ExecSpec { args, tty, stdin, stdout, stderr } = spec;
        let stderr = stderr && !tty;
        let request = cri::ExecRequest { container_id: id.to_owned(), cmd: args, tty, stdin, stdout, stderr };
        let url: cri::ExecResponse =
            self.core.endpoint.ask("exec in container", (cri::EXEC, id), &request, REQUEST).await?;
        let wanted = stream::Wanted { tty, stdin, stdout, stderr };
        stream::open(&url, wanted, "exec in container", id).await
    }

    async fn attach(&self, id: &str, _seen: u64) -> Result<Streams, SeamError> {
        let status = self.core.container_status(id).await?.status.unwrap_or_default();
        let (tty, stdin) = config::terminal(&status.annotations);
        let request = cri::AttachRequest { container_id: id.to_owned(), stdin, tty, stdout: true, stderr: !tty };
        let url: cri::AttachResponse =
            self.core.endpoint.ask("attach to container", (cri::ATTACH, id), &request, REQUEST).await?;
        let wanted = stream::Wanted { tty, stdin, stdout: true, stderr: !tty };
        stream::open(&url, wanted, "attach to container", id).await
    }

    async fn dial(&self, id: &str, port: u16) -> Result<Connection, SeamError> {
        let known = self.core.known(id).await?;
        Ok(Box::new(dial::localhost(Core::netns(&known), id, port).await?))
    }

    async fn listens(&self, id: &str, ports: &[u16]) -> Result<bool, SeamError> {
        let known = self.core.known(id).await?;
        listening::all(Core::netns(&known), id, ports).await
    }

    async fn limit_group(&self, group: &str, resources: &Resources) -> Result<(), SeamError> {
        let limited = self.core.groups.limit(group, limits(resources.clone())).await;
        limited.map_err(|error| SeamError::new("limit cgroup", group, error))
    }

    async fn group_usage(&self, group: &str) -> Result<Option<Usage>, SeamError> {
        self.core.used(group).await
    }

    async fn usage(&self, walk: Walk) -> Result<Vec<SandboxUsage>, SeamError> {
        let core = &self.core;
        let layers = if walk == Walk::Nothing { HashMap::new() } else { core.layers().await? };
        let mut all = Vec::new();
        for sandbox in self.list().await? {
            let known = core.known(&sandbox.id).await?;
            let group = known.group();
            let walked = walk.has(&sandbox.id);
            let dev = known.pid.filter(|_| walked && known.netns.is_some());
            let dev = dev.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
            let mut containers = Vec::new();
            for container in &sandbox.containers {
                let Some(usage) = core.used(&format!("{group}/{}", container.id)).await? else { continue };
                let logs = || logs::used(&config::log(&known.config, &container.labels));
                let disk = walked.then(|| (layers.get(&container.id).copied().unwrap_or_default(), logs()));
                containers.push(ContainerUsage { id: container.id.clone(), usage, disk });
            }
            // After its parts: none has used more. One that has ended has used nothing.
            let Some(usage) = core.used(&group).await? else { continue };
            let network = stats::interfaces(&dev.unwrap_or_default());
            all.push(SandboxUsage { id: sandbox.id, usage, network, containers });
        }
        Ok(all)
    }
}
