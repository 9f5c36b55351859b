//! Making one instance of a container: environment, files, mounts, runtime calls.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use machinery_client::EventKind::Warning;

use crate::adapter::parse_seccomp;
use crate::container::{self, ConfigError, Ingredients};
use crate::env::{EnvError, PodView, Sources, environment};
use crate::files;
use crate::pods::Machine;
use crate::pods::worker::Worker;
use crate::seams::{Access, ContainerSpec, Image, Mount, Propagation, Seccomp, chain};
use crate::state::Instance;
use crate::static_pods::is_static;
use crate::volumes;

/// How long a static pod waits for the API's Services.
const FOR_SERVICES: Duration = Duration::from_secs(1);

/// What an exit message may hold, in bytes.
const TERMINATION_MESSAGE_LIMIT: usize = 4096;

/// Why an instance was not made, by upstream's waiting reasons.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateError {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    #[error(transparent)]
    Volume(#[from] crate::volumes::VolumeError),
    #[error("target container {0:?} is not running")]
    Target(String),
    #[error("cannot load seccomp profile {path}", path = path.display())]
    Seccomp { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot {operation} {path}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

impl CreateError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Config(ConfigError::NoCommand) | Self::Target(_) | Self::Seccomp { .. } => "CreateContainerError",
            _ => "CreateContainerConfigError",
        }
    }

    pub(super) fn message(&self) -> String {
        chain(self)
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CreateError {
    let path = path.to_owned();
    move |source| CreateError::Io { operation, path, source }
}

impl Worker {
    pub(super) async fn container_spec(
        &self,
        container: &Container,
        attempt: u32,
        image: &Image,
        sandbox: &str,
    ) -> Result<ContainerSpec, CreateError> {
        let machine = &self.machine;
        let pod: &Pod = &self.pod;
        let spec = pod.spec.as_ref().ok_or_else(|| EnvError::Container(container.name.clone()))?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let services = machine.cluster.services(namespace);
        // Without the API a static pod has what is known.
        let services = match is_static(pod) {
            true => tokio::time::timeout(FOR_SERVICES, services).await.unwrap_or_default(),
            false => services.await,
        };
        let sources = Sources::of_environment(container, namespace, &self.volumes, &*machine.cluster).await?;
        let host_ips: Vec<_> = machine.config.node_ips.iter().collect();
        let pod_ips = if spec.host_network == Some(true) { &host_ips[..] } else { self.state.sandbox.ips() };
        let view = PodView {
            pod,
            node_name: &machine.config.node_name,
            host_ips: &host_ips,
            pod_ips,
            services: &services,
            allocatable: machine.allocatable,
        };
        let domain = &machine.config.cluster_domain;
        // There is no sandbox under a name that is too long.
        let name = files::nodename(pod, domain).unwrap_or_else(|_| files::hostname(pod, domain).0);
        let mut env = vec![format!("HOSTNAME={name}")];
        env.extend(image.env.iter().cloned());
        let env = environment(container, &env, &view, &sources)?;
        let dir = self.pod_dir();
        let mut mounts = volumes::mounts(container, &env, &self.volumes)?;
        self.write_pod_files(&dir)?;
        let taken: Vec<_> = mounts.iter().map(|mount| mount.target.clone()).collect();
        for name in ["hosts", "resolv.conf"] {
            let target = PathBuf::from("/etc").join(name);
            if !taken.contains(&target) {
                mounts.push(file_mount(dir.join("etc").join(name), target));
            }
        }
        if let Some(target) = container.termination_message_path.as_deref().filter(|path| path.starts_with('/')) {
            let source = termination_log(&dir, &container.name, attempt);
            if let Some(parent) = source.parent() {
                std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
            }
            std::fs::write(&source, b"").map_err(io_error("create", &source))?;
            // Any user of the container may leave its last words.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(&source, mode).map_err(io_error("set the mode of", &source))?;
            mounts.push(file_mount(source, PathBuf::from(target)));
        }
        let log_path = self.log_dir().join(&container.name).join(format!("{attempt}.log"));
        if let Some(parent) = log_path.parent() {
            std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        let (seccomp, processes_of) = (self.seccomp(container)?, self.target_of(container)?);
        let ingredients = Ingredients {
            pod,
            spec,
            container,
            attempt,
            sandbox,
            image,
            env,
            mounts,
            log_path,
            seccomp,
            processes_of,
            bounds: &machine.bounds,
        };
        Ok(container::spec(ingredients)?)
    }

    /// The running instance that an ephemeral container is aimed at.
    fn target_of(&self, container: &Container) -> Result<Option<String>, CreateError> {
        let mut ephemeral = self.spec().and_then(|spec| spec.ephemeral_containers.as_ref()).into_iter().flatten();
        let target = ephemeral.find(|ephemeral| ephemeral.name == container.name);
        let target = target.and_then(|ephemeral| ephemeral.target_container_name.as_ref());
        let Some(name) = target.filter(|name| !name.is_empty()) else { return Ok(None) };
        match self.state.containers.get(name).map(|record| &record.instance) {
            Some(Instance::Running(running)) => Ok(Some(running.id.clone())),
            _ => Err(CreateError::Target(name.clone())),
        }
    }

    fn seccomp(&self, container: &Container) -> Result<Option<Seccomp>, CreateError> {
        let profile = self.spec().and_then(|spec| container::seccomp_profile(spec, container));
        let Some(profile) = profile else { return Ok(None) };
        match (profile.type_.as_str(), &profile.localhost_profile) {
            ("RuntimeDefault", _) => Ok(Some(Seccomp::RuntimeDefault)),
            // The API lets no name lead out of the directory.
            ("Localhost", Some(name)) => {
                let path = self.machine.config.seccomp_dir().join(name);
                let failed = |source| CreateError::Seccomp { path: path.clone(), source };
                let text = std::fs::read_to_string(&path).map_err(|error| failed(error.into()))?;
                let profile = parse_seccomp(&text).map_err(|error| failed(error.into()))?;
                Ok(Some(Seccomp::Profile(profile)))
            }
            _ => Ok(None),
        }
    }

    /// /etc/hosts and /etc/resolv.conf, shared by the pod's containers.
    fn write_pod_files(&self, dir: &Path) -> Result<(), CreateError> {
        let (machine, pod) = (&self.machine, &*self.pod);
        let spec = pod.spec.as_ref();
        let etc = dir.join("etc");
        std::fs::create_dir_all(&etc).map_err(io_error("create", &etc))?;
        let (hostname, domain) = files::hostname(pod, &machine.config.cluster_domain);
        let aliases = spec.and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
        let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
        // A host without the file has nothing to inherit.
        let host = host_network.then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        let hosts = files::hosts(self.state.sandbox.ips(), &hostname, domain.as_deref(), aliases, host.as_deref());
        let config = &machine.config;
        let resolv = files::resolv_conf(pod, &machine.host_resolver, config.cluster_dns, &config.cluster_domain);
        for (name, text, left_out) in [("hosts", hosts, &[][..]), ("resolv.conf", resolv.text, &resolv.left_out)] {
            let path = etc.join(name);
            // Containers have the file itself mounted: it is rewritten in place, and only when it differs.
            if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                std::fs::write(&path, text).map_err(io_error("write", &path))?;
                for message in left_out {
                    self.event(None, Warning, "DNSConfigForming", message);
                }
            }
        }
        Ok(())
    }

    /// The container's last words, else (if its policy says so) the end of its log, as the exit's message.
    pub(super) fn read_termination_message(&mut self, name: &str, attempt: u32) {
        let Some(container) = self.container(name) else { return };
        let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let path = termination_log(&self.pod_dir(), name, attempt);
        let mut message = read_head(&path);
        let _ = std::fs::remove_file(&path); // may never have been made
        let log = self.log_dir().join(name).join(format!("{attempt}.log"));
        let Some(record) = self.state.containers.get_mut(name) else { return };
        let Instance::Ended(ended) = &mut record.instance else { return };
        if message.is_empty() && fall_back && !ended.succeeded() {
            message = crate::logs::tail_text(&log, 80, 2048);
        }
        if !message.is_empty() {
            ended.exit.message = message;
        }
    }
}

fn read_head(path: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(TERMINATION_MESSAGE_LIMIT as u64).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(), // no such mount in this container
    }
}

fn termination_log(dir: &Path, container: &str, attempt: u32) -> PathBuf {
    dir.join("termination").join(container).join(attempt.to_string())
}

fn file_mount(source: PathBuf, target: PathBuf) -> Mount {
    Mount { source, target, access: Access::ReadWrite, propagation: Propagation::Private }
}

/// Directories of a pod that is gone.
pub(super) fn remove_pod_files(machine: &Machine, uid: &str, log_dir: &Path) {
    for dir in [machine.config.pod_dir(uid).as_path(), log_dir] {
        if let Err(error) = remove_dir(dir) {
            tracing::warn!(dir = %dir.display(), %error, "pod directory not removed");
        }
    }
}

/// What its volumes hold that is the pod's own; the rest of its files stays until the pod goes.
pub(super) async fn remove_volumes(machine: &Machine, uid: &str) {
    let dir = machine.pod_volumes(uid);
    let subject = dir.clone();
    // A large one takes its time.
    let removed = tokio::task::spawn_blocking(move || remove_dir(&subject)).await.map_err(io::Error::other);
    if let Err(error) = removed.and_then(|result| result) {
        tracing::warn!(dir = %dir.display(), %error, "volumes of a pod that is over not removed");
    }
}

/// What is mounted there is not removed along with it: it may be somebody's data.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    base_sys::mounts::unmount_below(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
