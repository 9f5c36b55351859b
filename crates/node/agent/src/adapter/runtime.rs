//! `node_oci` as [`Runtime`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::adapter::{dial, listening};
use crate::seams::{
    Access, Connection, Container, ContainerSpec, ContainerState, ContainerUsage, ContainerUser, DiskUsage, Embedded,
    ExecSpec, Exit, IdRange, Inspection, Processes, Propagation, Resources, Runtime, RuntimeEvent, Sandbox,
    SandboxSpec, SandboxUsage, SeamError, Seccomp, Streams, TerminalSize, Usage, Walk, label,
};
use crate::stats;

/// Upstream's defaults of containerLogMaxSize and containerLogMaxFiles.
pub(super) const LOG_BYTES: u64 = 10 << 20;
pub(super) const LOG_FILES: u32 = 5;

pub struct OciRuntime(node_oci::Runtime);

impl OciRuntime {
    /// Joins an opened runtime and its events to the seam.
    pub fn new(
        runtime: node_oci::Runtime,
        mut events: mpsc::UnboundedReceiver<node_oci::Event>,
        tasks: &base_tasks::Tasks,
    ) -> (Self, mpsc::UnboundedReceiver<RuntimeEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let statuses = runtime.clone();
        tasks.spawn("runtime-events", async move {
            while let Some(event) = events.recv().await {
                let event = translate(&statuses, event).await;
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        (Self(runtime), receiver)
    }
}

/// The event, with what the runtime recorded beside it.
async fn translate(runtime: &node_oci::Runtime, event: node_oci::Event) -> RuntimeEvent {
    match event {
        node_oci::Event::ContainerExited { sandbox, container, exit_code, signal, oom_killed, finished_at } => {
            let recorded = runtime.container(&container).await.ok().and_then(|status| match status.state {
                node_oci::ContainerState::Exited(status) => Some(exit(status)),
                _ => None,
            });
            let exit = recorded.unwrap_or(Exit {
                exit_code,
                signal,
                oom_killed,
                started_at: None,
                finished_at,
                reason: None,
                message: String::new(),
            });
            RuntimeEvent::ContainerExited { sandbox, container, exit }
        }
        node_oci::Event::ShimLost { sandbox } => RuntimeEvent::SandboxLost { sandbox },
    }
}

fn exit(status: node_oci::ExitStatus) -> Exit {
    Exit {
        exit_code: status.exit_code,
        signal: status.signal,
        oom_killed: status.oom_killed,
        started_at: status.started_at,
        finished_at: status.finished_at,
        reason: status.reason,
        message: status.message.unwrap_or_default(),
    }
}

fn sandbox(status: node_oci::SandboxStatus) -> Sandbox {
    Sandbox {
        netns: (!status.spec.host_network).then_some(status.netns),
        ready: status.state == node_oci::SandboxState::Ready,
        created_at: status.created_at,
        containers: status.containers.into_iter().map(container).collect(),
        users: status.spec.users.map(|node_oci::IdRange { first, length }| IdRange { first, length }),
        labels: status.spec.labels,
        id: status.id,
    }
}

fn container(status: node_oci::ContainerStatus) -> Container {
    let state = match status.state {
        node_oci::ContainerState::Created => ContainerState::Created,
        node_oci::ContainerState::Running { started_at, .. } => ContainerState::Running { started_at },
        node_oci::ContainerState::Exited(status) => ContainerState::Exited(exit(status)),
    };
    Container { id: status.id, labels: status.labels, state }
}

fn sandbox_spec(spec: SandboxSpec) -> node_oci::SandboxSpec {
    let text = |labels: &BTreeMap<String, String>, key: &str| labels.get(key).cloned().unwrap_or_default();
    node_oci::SandboxSpec {
        namespace: text(&spec.labels, label::POD_NAMESPACE),
        name: text(&spec.labels, label::POD_NAME),
        uid: text(&spec.labels, label::POD_UID),
        id: spec.id,
        hostname: spec.hostname,
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        processes: match spec.processes {
            Processes::Own => node_oci::Processes::Own,
            Processes::Shared => node_oci::Processes::Shared,
            Processes::Host => node_oci::Processes::Host,
        },
        users: spec.users.map(|IdRange { first, length }| node_oci::IdRange { first, length }),
        labels: spec.labels,
        sysctls: spec.sysctls,
        cgroup_parent: spec.cgroup_parent,
        resources: limits(spec.resources),
        ..node_oci::SandboxSpec::default()
    }
}

pub(super) fn limits(resources: Resources) -> node_oci::Resources {
    node_oci::Resources {
        cpu_shares: Some(resources.cpu_shares),
        cpu_quota: resources.cpu_quota,
        cpu_period: Some(resources.cpu_period).filter(|period| *period > 0),
        memory_limit: resources.memory_limit,
        pids_limit: resources.pids_limit,
        huge_pages: resources.huge_pages,
        oom_score_adj: Some(resources.oom_score_adj),
    }
}

/// The other way round.
fn mounted(mount: node_oci::Mount) -> crate::seams::Mount {
    crate::seams::Mount {
        source: mount.source,
        target: mount.target,
        access: match (mount.readonly, mount.recursive) {
            (false, _) => Access::ReadWrite,
            (true, false) => Access::ReadOnly,
            (true, true) => Access::ReadOnlyRecursive,
        },
        propagation: match mount.propagation {
            node_oci::Propagation::Private => Propagation::Private,
            node_oci::Propagation::HostToContainer => Propagation::HostToContainer,
            node_oci::Propagation::Bidirectional => Propagation::Bidirectional,
        },
    }
}

fn container_spec(spec: ContainerSpec) -> node_oci::ContainerSpec {
    let mount = |mount: crate::seams::Mount| node_oci::Mount {
        source: mount.source,
        target: mount.target,
        readonly: mount.access != Access::ReadWrite,
        recursive: mount.access == Access::ReadOnlyRecursive,
        propagation: match mount.propagation {
            Propagation::Private => node_oci::Propagation::Private,
            Propagation::HostToContainer => node_oci::Propagation::HostToContainer,
            Propagation::Bidirectional => node_oci::Propagation::Bidirectional,
        },
    };
    let (security, resources) = (spec.security, spec.resources);
    node_oci::ContainerSpec {
        id: spec.id,
        name: spec.name,
        attempt: spec.attempt,
        image: spec.image,
        layers: spec.layers,
        args: spec.args,
        env: spec.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: spec.working_dir,
        user: node_oci::User {
            name: security.image_user,
            uid: security.user,
            gid: security.group,
            additional_gids: security.supplemental_groups,
            only_these_groups: security.only_these_groups,
        },
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        mounts: spec.mounts.into_iter().map(mount).collect(),
        resources: limits(resources),
        log_path: Some(spec.log_path),
        log_limit: Some(node_oci::LogLimit { bytes: LOG_BYTES, files: LOG_FILES }),
        stop_signal: spec.labels.get(label::STOP_SIGNAL).filter(|signal| !signal.is_empty()).cloned(),
        capabilities: node_oci::Capabilities { add: security.capabilities_add, drop: security.capabilities_drop },
        privileged: security.privileged,
        readonly_rootfs: security.read_only_rootfs,
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp.map(|seccomp| match seccomp {
            Seccomp::RuntimeDefault => node_oci::Seccomp::RuntimeDefault,
            Seccomp::Profile(profile) => node_oci::Seccomp::Profile(profile),
        }),
        unmasked: security.unmasked_proc,
        processes_of: spec.processes_of,
        labels: spec.labels,
    }
}

pub(super) fn usage(usage: node_oci::Usage) -> Usage {
    Usage {
        cpu: usage.cpu,
        memory: usage.memory,
        working_set: usage.working_set(),
        anonymous: usage.anonymous,
        swap: usage.swap,
        page_faults: usage.page_faults,
        major_page_faults: usage.major_page_faults,
        processes: usage.processes,
    }
}

/// `networked`: in a network namespace of its own, which any of its containers shows.
fn sandbox_usage(used: node_oci::SandboxUsage, networked: bool) -> SandboxUsage {
    let disk = |disk: node_oci::DiskUsage| DiskUsage { bytes: disk.bytes, inodes: disk.inodes };
    let dev = used.containers.first().filter(|_| networked).map(|container| container.pid);
    let dev = dev.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok());
    SandboxUsage {
        id: used.id,
        usage: usage(used.usage),
        network: stats::interfaces(&dev.unwrap_or_default()),
        containers: used
            .containers
            .into_iter()
            .map(|container| ContainerUsage {
                id: container.id,
                usage: usage(container.usage),
                disk: container.disk.map(|(layer, logs)| (disk(layer), disk(logs))),
            })
            .collect(),
    }
}

fn streams(container: &str, streams: node_oci::Streams) -> Streams {
    let (resize, mut sizes) = mpsc::unbounded_channel::<TerminalSize>();
    let subject = container.to_owned();
    let (exit, terminal) = (streams.exit, streams.resize);
    let exit = async move {
        tokio::pin!(exit);
        let lost = || SeamError::new("follow process in", subject.clone(), "its shim is gone");
        loop {
            tokio::select! {
                code = &mut exit => return code.ok_or_else(lost),
                Some(TerminalSize { width, height }) = sizes.recv() => {
                    if let Some(Err(error)) = terminal.as_ref().map(|terminal| terminal.resize(width, height)) {
                        tracing::debug!(container = subject, %error, "terminal not resized");
                    }
                }
            }
        }
    };
    Streams {
        stdin: streams.stdin.map(|stream| Box::new(stream) as _),
        stdout: streams.stdout.map(|stream| Box::new(stream) as _),
        stderr: streams.stderr.map(|stream| Box::new(stream) as _),
        resize,
        exit: Box::pin(exit),
    }
}

/// What is gone already is stopped and removed.
fn gone_is_done(result: Result<(), node_oci::Error>) -> Result<(), node_oci::Error> {
    match result {
        Err(node_oci::Error::NoSandbox(_) | node_oci::Error::NoContainer(_)) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Runtime for OciRuntime {
    async fn list(&self) -> Result<Vec<Sandbox>, SeamError> {
        let list = self.0.list().await.map_err(|error| SeamError::new("list", "sandboxes", error))?;
        Ok(list.into_iter().map(sandbox).collect())
    }

    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox, SeamError> {
        let id = spec.id.clone();
        let created = self.0.create_sandbox(sandbox_spec(spec)).await;
        created.map(sandbox).map_err(|error| SeamError::new("create sandbox", id, error))
    }

    async fn stop_sandbox(&self, sandbox: &str) -> Result<(), SeamError> {
        gone_is_done(self.0.stop_sandbox(sandbox).await).map_err(|error| SeamError::new("stop sandbox", sandbox, error))
    }

    async fn remove_sandbox(&self, sandbox: &str) -> Result<(), SeamError> {
        let removed = gone_is_done(self.0.remove_sandbox(sandbox).await);
        removed.map_err(|error| SeamError::new("remove sandbox", sandbox, error))
    }

    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<String, SeamError> {
        let name = spec.name.clone();
        let created = self.0.create_container(sandbox, container_spec(spec)).await;
        created.map(|status| status.id).map_err(|error| SeamError::new("create container", name, error))
    }

    async fn start_container(&self, id: &str) -> Result<Timestamp, SeamError> {
        let started = self.0.start_container(id).await;
        let status = started.map_err(|error| SeamError::new("start container", id, error))?;
        Ok(match status.state {
            node_oci::ContainerState::Running { started_at, .. } => started_at,
            node_oci::ContainerState::Exited(exit) => exit.started_at.unwrap_or(status.created_at),
            node_oci::ContainerState::Created => status.created_at,
        })
    }

    async fn container_user(&self, id: &str) -> Result<Option<ContainerUser>, SeamError> {
        let user = self.0.user(id).await.map_err(|error| SeamError::new("read the user of container", id, error))?;
        Ok(user.map(|user| ContainerUser { uid: user.uid, gid: user.gid, groups: user.additional_gids }))
    }

    async fn signal_container(&self, id: &str, signal: i32) -> Result<(), SeamError> {
        let sent = self.0.signal_container(id, signal).await;
        sent.map_err(|error| SeamError::new("signal container", id, error))
    }

    async fn remove_container(&self, id: &str) -> Result<(), SeamError> {
        let removed = gone_is_done(self.0.remove_container(id).await);
        removed.map_err(|error| SeamError::new("remove container", id, error))
    }

    async fn resize_container(&self, id: &str, resources: &Resources) -> Result<(), SeamError> {
        let changed = self.0.change_container(id, limits(resources.clone())).await;
        changed.map_err(|error| SeamError::new("resize container", id, error))
    }

    async fn resize_sandbox(&self, id: &str, resources: &Resources) -> Result<(), SeamError> {
        let changed = self.0.change_sandbox(id, limits(resources.clone())).await;
        changed.map_err(|error| SeamError::new("resize sandbox", id, error))
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<Streams, SeamError> {
        let spec = node_oci::ExecSpec {
            args: spec.args,
            tty: spec.tty,
            stdin: spec.stdin,
            stdout: spec.stdout,
            stderr: spec.stderr && !spec.tty,
            ..node_oci::ExecSpec::default()
        };
        let started = self.0.exec(id, spec).await.map_err(|error| SeamError::new("exec in container", id, error))?;
        Ok(streams(id, started))
    }

    async fn attach(&self, id: &str, seen: u64) -> Result<Streams, SeamError> {
        let attached =
            self.0.attach_after(id, seen).await.map_err(|error| SeamError::new("attach to container", id, error))?;
        Ok(streams(id, attached))
    }

    async fn dial(&self, id: &str, port: u16) -> Result<Connection, SeamError> {
        let status = self.0.sandbox(id).await.map_err(|error| SeamError::new("find sandbox", id, error))?;
        Ok(Box::new(dial::localhost(status.netns, id, port).await?))
    }

    async fn listens(&self, id: &str, ports: &[u16]) -> Result<bool, SeamError> {
        let status = self.0.sandbox(id).await.map_err(|error| SeamError::new("find sandbox", id, error))?;
        listening::all(status.netns, id, ports).await
    }

    async fn limit_group(&self, group: &str, resources: &Resources) -> Result<(), SeamError> {
        let limited = self.0.limit_group(group, limits(resources.clone())).await;
        limited.map_err(|error| SeamError::new("limit cgroup", group, error))
    }

    async fn group_usage(&self, group: &str) -> Result<Option<Usage>, SeamError> {
        let used =
            self.0.group_usage(group).await.map_err(|error| SeamError::new("read", "what all pods use", error))?;
        Ok(used.map(usage))
    }

    async fn usage(&self, walk: Walk) -> Result<Vec<SandboxUsage>, SeamError> {
        let walked = walk.clone();
        let used = self
            .0
            .usage(move |sandbox| walked.has(sandbox))
            .await
            .map_err(|error| SeamError::new("read", "what sandboxes use", error))?;
        let mut all = Vec::with_capacity(used.len());
        for one in used {
            // One that went meanwhile has used nothing.
            let Ok(status) = self.0.sandbox(&one.id).await else { continue };
            let networked = walk.has(&one.id) && !status.spec.host_network;
            all.push(sandbox_usage(one, networked));
        }
        Ok(all)
    }
}

#[async_trait]
impl Embedded for OciRuntime {
    async fn inspect(&self, id: &str) -> Result<Inspection, SeamError> {
        let status = self.0.container(id).await.map_err(|error| SeamError::new("find container", id, error))?;
        let spec =
            serde_json::to_value(&status.spec).map_err(|error| SeamError::new("tell of container", id, error))?;
        let node_oci::Resources { cpu_shares, cpu_quota, cpu_period, memory_limit, pids_limit, .. } =
            status.spec.resources;
        Ok(Inspection {
            created_at: status.created_at,
            pid: match status.state {
                node_oci::ContainerState::Running { pid, .. } => Some(pid),
                _ => None,
            },
            log_path: status.log_path,
            mounts: status.spec.mounts.into_iter().map(mounted).collect(),
            resources: Resources {
                cpu_shares: cpu_shares.unwrap_or_default(),
                cpu_quota,
                cpu_period: cpu_period.unwrap_or_default(),
                memory_limit,
                pids_limit,
                huge_pages: status.spec.resources.huge_pages,
                oom_score_adj: status.spec.resources.oom_score_adj.unwrap_or_default(),
            },
            spec,
        })
    }

    async fn ended(&self, id: &str) -> Result<(), SeamError> {
        self.0.ended(id).await.map_err(|error| SeamError::new("follow container", id, error))
    }
}
