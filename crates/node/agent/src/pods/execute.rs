//! Carrying out a plan's actions, and folding their outcome into the state.

use std::net::IpAddr;
use std::time::Duration;

use base_sys::crash;
use machinery_client::EventKind::Warning;

use api::pod::containers::all;

use crate::container::{identifier, pod_labels, resources};
use crate::files;
use crate::plan::Action;
use crate::pods::create::{remove_pod_files, remove_volumes};
use crate::pods::worker::{Flow, Worker};
use crate::seams::{Dns, IdRange, Processes, Sandbox, SandboxSpec, SeamError, Wiring, chain};
use crate::state::{Failure, Instance, RETRY_INITIAL, RETRY_MAX, Running, SandboxState, Stage, Stopping, Volumes};

/// The longest that programming a pod's NetworkPolicies takes; they are tried again with the whole sandbox.
const POLICIES: Duration = Duration::from_secs(10);

/// What a sandbox that could not be made leaves behind.
enum Left {
    Nothing,
    /// A sandbox of this id, which is to be removed before another is made.
    Sandbox(String),
}

impl Worker {
    pub(super) async fn execute(&mut self, action: Action) -> Flow {
        match action {
            Action::MountVolumes => self.mount_volumes(),
            Action::CreateSandbox => self.create_sandbox().await,
            Action::EnsureImage { container } => self.ensure_image(&container),
            Action::AnnounceBackOff { container } => self.announce_back_off(&container),
            Action::AnnounceVolumeBackOff => self.announce_volume_back_off(),
            Action::Start { container, attempt } => self.start(&container, attempt).await,
            Action::Drain { container, withdrawal, deadline, cause } => {
                self.drain(&container, withdrawal, Stopping { deadline, stage: Stage::Draining }, cause);
            }
            Action::Signal { container, kill } => self.signal(&container, kill).await,
            Action::Resize => self.resize().await,
            Action::Hasten { container, deadline } => {
                if let Some(stop) = self.running_mut(&container).and_then(|running| running.stop.as_mut()) {
                    stop.deadline = deadline;
                }
            }
            Action::RemoveSandbox => self.remove_sandbox().await,
            Action::ReleaseVolumes => self.release_volumes(),
            Action::RemoveVolumes => {
                remove_volumes(&self.machine, self.uid()).await;
                self.state.volumes = Volumes::Unmounted;
            }
            Action::DeleteObject => {
                // Before the scheduler can know.
                self.machine.capacity.release(self.uid());
                let now = self.now();
                self.report_removal(now);
            }
            Action::Finish => {
                crash::point("object deleted");
                // Nothing writes below the pod's directories any more.
                self.tasks.shutdown().await;
                remove_pod_files(&self.machine, self.uid(), &self.log_dir());
                return Flow::Finished;
            }
        }
        Flow::Continue
    }

    pub(super) fn running_mut(&mut self, name: &str) -> Option<&mut Running> {
        match &mut self.state.containers.get_mut(name)?.instance {
            Instance::Running(running) => Some(running),
            _ => None,
        }
    }

    async fn create_sandbox(&mut self) {
        let uid = self.uid().to_owned();
        let proposed = identifier(&[&uid, &self.now().as_nanosecond().to_string()]);
        self.machine.routes.insert(&proposed, self.outbox.clone());
        let name = files::nodename(&self.pod, &self.machine.config.cluster_domain);
        let made = match name {
            Ok(name) => self.make_sandbox(&proposed, name).await.map_err(|(error, left)| (chain(&error), left)),
            Err(error) => Err((error.to_string(), Left::Nothing)),
        };
        self.state.sandbox = match made {
            Ok((id, ips)) => {
                self.state.last_ips.clone_from(&ips);
                self.state.group = self.spec().map(|spec| resources::of_pod(spec, &self.machine.bounds));
                SandboxState::Ready { id, ips }
            }
            Err((error, left)) => {
                let message = format!("Failed to create pod sandbox: {error}");
                self.event(None, Warning, "FailedCreatePodSandBox", &message);
                let previous = match &self.state.sandbox {
                    SandboxState::Failed(failure) => Some(failure),
                    _ => None,
                };
                let bounds = (RETRY_INITIAL, RETRY_MAX);
                let failure = Failure::after(previous, bounds, "FailedCreatePodSandBox", message, self.now());
                match left {
                    Left::Nothing => {
                        self.machine.routes.remove(&proposed);
                        SandboxState::Failed(failure)
                    }
                    Left::Sandbox(id) => SandboxState::Stuck { id, failure },
                }
            }
        };
    }

    /// The sandbox's id, and its addresses.
    async fn make_sandbox(&self, proposed: &str, hostname: String) -> Result<(String, Vec<IpAddr>), (SeamError, Left)> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let cgroup_parent = resources::parent(&spec).to_owned();
        let resources = resources::of_pod(&spec, &self.machine.bounds);
        let privileged = all(&spec).any(|container| {
            container.security_context.as_ref().is_some_and(|security| security.privileged == Some(true))
        });
        let sysctls = spec.security_context.and_then(|security| security.sysctls).unwrap_or_default();
        let mut request = SandboxSpec {
            id: proposed.to_owned(),
            hostname,
            labels: pod_labels(&self.pod),
            host_network: spec.host_network == Some(true),
            host_ipc: spec.host_ipc == Some(true),
            processes: match (spec.host_pid, spec.share_process_namespace) {
                (Some(true), _) => Processes::Host,
                (_, Some(true)) => Processes::Shared,
                _ => Processes::Own,
            },
            users: None,
            cgroup_parent,
            resources,
            privileged,
            log_directory: self.log_dir(),
            sysctls: sysctls.into_iter().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
        };
        let created = if spec.host_users == Some(false) {
            // One after the other: what the one before has taken shows once its sandbox is there.
            let _turn = self.machine.users_turn.lock().await;
            match self.free_users().await {
                Ok(users) => {
                    request.users = Some(users);
                    self.machine.runtime.create_sandbox(request).await
                }
                Err(error) => Err(error),
            }
        } else {
            self.machine.runtime.create_sandbox(request).await
        };
        let sandbox = created.map_err(|error| (error, Left::Nothing))?;
        let id = &sandbox.id;
        if id != proposed {
            self.machine.routes.insert(id, self.outbox.clone());
            self.machine.routes.remove(proposed);
        }
        crash::point("sandbox created");
        let connected = self.connect(&sandbox).await;
        crash::point("network attached");
        let connected = match connected {
            Ok(ips) => self.policies_in_force(&ips).await.map(|()| ips),
            error => error,
        };
        match connected {
            Ok(ips) => Ok((sandbox.id, ips)),
            Err(error) => {
                let dismantled = self.dismantle(id).await;
                let left = match dismantled {
                    Ok(()) => {
                        self.machine.routes.remove(id);
                        Left::Nothing
                    }
                    Err(error) => {
                        tracing::warn!(sandbox = id, error = %chain(&error), "half-made sandbox not removed; will retry");
                        Left::Sandbox(id.clone())
                    }
                };
                Err((error, left))
            }
        }
    }

    async fn free_users(&self) -> Result<IdRange, SeamError> {
        let none =
            || SeamError::new("find", "users for the pod", "this node's kernel or runtime has no user namespaces");
        let users = self.machine.config.features.users.ok_or_else(none)?;
        let sandboxes = self.machine.runtime.list().await?;
        users.free(sandboxes.into_iter().filter_map(|sandbox| sandbox.users))
    }

    /// No container of the pod starts before: its first packet is already one that the policies allow.
    async fn policies_in_force(&self, ips: &[IpAddr]) -> Result<(), SeamError> {
        if ips.is_empty() {
            return Ok(());
        }
        let programmed = self.machine.policies.programmed(&self.pod, ips);
        let pod = || self.pod.metadata.name.clone().unwrap_or_default();
        let late = |late| SeamError::new("wait for the NetworkPolicies of pod", pod(), late);
        tokio::time::timeout(POLICIES, programmed).await.map_err(late)
    }

    pub(super) async fn connect(&self, sandbox: &Sandbox) -> Result<Vec<IpAddr>, SeamError> {
        let host_network = self.spec().and_then(|spec| spec.host_network) == Some(true);
        match &sandbox.netns {
            Some(netns) if !host_network => {
                let config = &self.machine.config;
                let (host, domain) = (&self.machine.host_resolver, &config.cluster_domain);
                let resolver = files::resolv_conf(&self.pod, host, config.cluster_dns, domain).config;
                let dns = Dns { servers: resolver.nameservers, searches: resolver.searches, options: resolver.options };
                self.machine.network.attach(Wiring { sandbox: &sandbox.id, netns, pod: &self.pod, dns: &dns }).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn dismantle(&self, id: &str) -> Result<(), SeamError> {
        if self.spec().and_then(|spec| spec.host_network) != Some(true) {
            self.machine.network.detach(id).await?;
            crash::point("network detached");
        }
        self.machine.runtime.stop_sandbox(id).await?;
        crash::point("sandbox stopped");
        self.machine.runtime.remove_sandbox(id).await?;
        crash::point("sandbox removed");
        Ok(())
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
}
