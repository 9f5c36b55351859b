//! The client that the node agent holds: async, one connection per living shim.

mod connection;
mod groups;
mod launch;
mod sandbox;
mod streams;
mod teardown;
mod usage;

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_sys::crash;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Error;
use crate::cgroup::Cgroups;
use crate::layout::{self, ContainerRecord, SandboxDir, is_valid_id};
use crate::spec::{ContainerSpec, ExecSpec, Resources, RuntimeConfig, SandboxSpec};
use crate::status::{ContainerState, ContainerStatus, Event, ProcessUser, SandboxState, SandboxStatus};
use crate::wire::{Operation, Reply, StreamKind};
use connection::CallError;
pub use groups::Groups;
use sandbox::Sandbox;
use streams::Unfinished;
pub use streams::{Exit, StreamReader, StreamWriter, Streams, Terminal};
pub use usage::{ContainerUsage, DiskUsage, SandboxUsage};

/// The container runtime of one data directory. Clones share it; the last one dropped disconnects from the
/// shims and leaves them running.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: Arc<RuntimeConfig>,
    sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    events: UnboundedSender<Event>,
    /// Each distinct warning is logged once.
    warned: Mutex<HashSet<String>>,
}

impl Runtime {
    /// Opens the runtime's directory and finds its living shims again. Every container that has ended and was not
    /// removed is announced (again), so nothing that happened while nobody was connected is missed; sandboxes that
    /// were never finished are removed.
    ///
    /// # Errors
    /// When the directory or the cgroups cannot be used. A single sandbox that cannot be recovered is logged.
    pub async fn open(config: RuntimeConfig) -> Result<(Self, UnboundedReceiver<Event>), Error> {
        let (events, received) = unbounded_channel();
        let runtime = Self(Arc::new(Inner {
            config: Arc::new(config),
            sandboxes: Mutex::default(),
            events,
            warned: Mutex::default(),
        }));
        let root = &runtime.0.config.root;
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(Error::io("make the directory", root))?;
        for entry in fs::read_dir(root).map_err(Error::io("read", root))? {
            let directory = SandboxDir(entry.map_err(Error::io("read", root))?.path());
            match launch::recover(directory.clone(), runtime.0.events.clone()).await {
                Ok(Some(sandbox)) => {
                    runtime.sandboxes().insert(sandbox.id.clone(), sandbox);
                }
                Ok(None) => {}
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(directory = %directory.0.display(), error, "cannot recover a sandbox");
                }
            }
        }
        Ok((runtime, received))
    }

    /// Every sandbox with its containers.
    pub async fn list(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.sandboxes().values().map(|sandbox| sandbox.status()).collect())
    }

    pub async fn sandbox(&self, id: &str) -> Result<SandboxStatus, Error> {
        Ok(self.find_sandbox(id)?.status())
    }

    pub async fn container(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.find_container(id)?.1)
    }

    /// Starts the pod's shim and makes its namespaces. On an error nothing is left behind.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus, Error> {
        let parents = spec.cgroup_parent.split('/').filter(|part| !part.is_empty());
        let ids = [("sandbox", spec.id.as_str()), ("pod uid", &spec.uid)].into_iter();
        for (what, id) in ids.chain(parents.map(|part| ("cgroup", part))) {
            if !is_valid_id(id) {
                return Err(Error::InvalidId { what, id: id.to_owned() });
            }
        }
        let sandbox = launch::create(Arc::clone(&self.0.config), spec, self.0.events.clone()).await?;
        let status = sandbox.status();
        self.sandboxes().insert(sandbox.id.clone(), sandbox);
        Ok(status)
    }

    /// Kills what still runs in the sandbox and returns when it is dead. Stopping twice is no error.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = self.find_sandbox(id)?;
        sandbox.model().state = SandboxState::NotReady;
        let marker = sandbox.directory.stopped();
        fs::write(&marker, "").map_err(Error::io("write", &marker))?;
        match sandbox.call(Operation::Stop).await {
            Ok(_) | Err(CallError::Gone) => Ok(()),
            Err(CallError::Failed(failure)) => Err(Error::Sandbox { sandbox: id.to_owned(), message: failure.message }),
        }
    }

    /// Stops the sandbox and removes everything it owns. Removing an unknown sandbox is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        match self.stop_sandbox(id).await {
            Err(Error::NoSandbox(_)) => return Ok(()),
            other => other?,
        }
        let sandbox = self.find_sandbox(id)?;
        sandbox.expect_end();
        if let Err(CallError::Failed(failure)) = sandbox.call(Operation::Shutdown).await {
            return Err(Error::Sandbox { sandbox: id.to_owned(), message: failure.message });
        }
        crash::point("shim ended");
        let removed = Arc::clone(&sandbox);
        blocking(move || teardown::remove_sandbox(&removed.directory, Some(&removed.record), &Cgroups::discover()?))
            .await?;
        self.sandboxes().remove(id);
        Ok(())
    }

    /// Makes a cgroup that pods can share ([`SandboxSpec::cgroup_parent`]), or finds it, and limits it.
    pub async fn limit_group(&self, parent: &str, resources: Resources) -> Result<(), Error> {
        self.groups().limit(parent, resources).await
    }

    /// Changes the limits of the sandbox as a whole.
    pub async fn change_sandbox(&self, id: &str, resources: Resources) -> Result<(), Error> {
        let group = self.find_sandbox(id)?.record.cgroup();
        blocking(move || Cgroups::discover()?.change(&group, &resources)).await
    }

    /// Changes the limits of a container that runs, and what is known of them.
    pub async fn change_container(&self, id: &str, resources: Resources) -> Result<(), Error> {
        let (sandbox, ContainerStatus { mut spec, created_at, .. }) = self.find_container(id)?;
        let (group, path) = (sandbox.record.cgroup().join(id), sandbox.directory.container(id).record());
        spec.resources = Resources { oom_score_adj: spec.resources.oom_score_adj, ..resources.clone() };
        let known = spec.resources.clone();
        blocking(move || {
            Cgroups::discover()?.change(&group, &resources)?;
            layout::save(&path, &ContainerRecord { spec, created_at }).map_err(Error::io("write", path))
        })
        .await?;
        if let Some(status) = sandbox.model().containers.get_mut(id) {
            status.spec.resources = known;
        }
        Ok(())
    }

    /// Records the container; nothing runs yet.
    pub async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerStatus, Error> {
        if !is_valid_id(&spec.id) {
            return Err(Error::InvalidId { what: "container", id: spec.id });
        }
        let sandbox = self.find_sandbox(sandbox)?;
        if sandbox.model().state != SandboxState::Ready {
            let message = "it is stopped and takes no more containers".to_owned();
            return Err(Error::Sandbox { sandbox: sandbox.id.clone(), message });
        }
        let directory = sandbox.directory.container(&spec.id);
        let record = ContainerRecord { spec, created_at: Timestamp::now() };
        if let Err(e) = DirBuilder::new().mode(0o700).create(&directory.0) {
            return Err(match e.kind() {
                ErrorKind::AlreadyExists => Error::Exists { what: "container", id: record.spec.id },
                _ => Error::io("make the directory", &directory.0)(e),
            });
        }
        layout::save(&directory.record(), &record).map_err(Error::io("write", directory.record()))?;
        let status = sandbox::container_status(&sandbox.id, record, ContainerState::Created);
        sandbox.model().containers.insert(status.id.clone(), status.clone());
        Ok(status)
    }

    /// Returns when the container's command has been executed. When it cannot be, the error says why as a user
    /// should read it and the container is `Exited` with code 128 and reason `StartError`; no event is sent for
    /// that.
    pub async fn start_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        let (sandbox, status) = self.find_container(id)?;
        if status.state != ContainerState::Created {
            return Err(wrong_state("start", &status, "created"));
        }
        match sandbox.call(Operation::Start { container: id.to_owned() }).await {
            Ok((Reply::Started { warnings, .. }, _)) => {
                self.warn(&warnings);
                self.container(id).await
            }
            Ok(_) | Err(CallError::Gone) => Err(sandbox.gone()),
            Err(CallError::Failed(failure)) => Err(failed("start", id, failure.message)),
        }
    }

    /// Who a container runs as, by its image's accounts and by what was asked for; `None` before it was started.
    pub async fn user(&self, id: &str) -> Result<Option<ProcessUser>, Error> {
        #[derive(serde::Deserialize)]
        struct Config {
            process: Process,
        }
        #[derive(serde::Deserialize)]
        struct Process {
            user: ProcessUser,
        }
        let path = self.find_container(id)?.0.directory.container(id).oci_config();
        match layout::load::<Config>(&path) {
            Ok(config) => Ok(Some(config.process.user)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Sends a signal to the container's first process (`SIGKILL` ends all of them). A container that does not
    /// run is no error.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error> {
        let (sandbox, status) = self.find_container(id)?;
        if status.state == ContainerState::Created {
            return Ok(());
        }
        let operation = Operation::Signal { container: id.to_owned(), signal, exec: None };
        match sandbox.call(operation).await {
            Ok(_) => Ok(()),
            Err(CallError::Gone) => Ok(()), // its processes are being killed
            Err(CallError::Failed(failure)) => Err(failed("signal", id, failure.message)),
        }
    }

    /// Returns once the container does not run; at once when it does not.
    pub async fn ended(&self, id: &str) -> Result<(), Error> {
        let (sandbox, _) = self.find_container(id)?;
        let exit = sandbox.expect_exit(id);
        // Asked for before the look: no exit falls in between.
        if let ContainerState::Running { .. } = self.container(id).await?.state {
            // Its shim may be lost, and the container with it.
            let _ = exit.await;
        }
        Ok(())
    }

    /// Removes a container that does not run, with its writable layer. Its log stays. Removing an unknown
    /// container is no error.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Ok((sandbox, status)) = self.find_container(id) else { return Ok(()) };
        if let ContainerState::Running { .. } = status.state {
            return Err(wrong_state("remove", &status, "created or exited"));
        }
        match sandbox.call(Operation::Forget { container: id.to_owned() }).await {
            Ok(_) | Err(CallError::Gone) => {}
            Err(CallError::Failed(failure)) => return Err(failed("remove", id, failure.message)),
        }
        let (removed, name) = (Arc::clone(&sandbox), id.to_owned());
        blocking(move || {
            let directory = removed.directory.container(&name);
            teardown::remove_container(&directory, &removed.record, &name, &Cgroups::discover()?)
        })
        .await?;
        sandbox.model().containers.remove(id);
        Ok(())
    }

    /// Runs a further process in a running container. The streams that `spec` does not ask for are `/dev/null`. Who drops
    /// [`Streams::exit`] before the end kills the process.
    pub async fn exec(&self, container: &str, spec: ExecSpec) -> Result<Streams, Error> {
        let (sandbox, status) = self.find_container(container)?;
        if !matches!(status.state, ContainerState::Running { .. }) {
            return Err(wrong_state("exec in", &status, "running"));
        }
        let wants_input = spec.stdin;
        let (exec, exit) = sandbox.expect_exec()?;
        let operation = Operation::Exec { container: container.to_owned(), exec, spec };
        let answer = sandbox.call(operation).await;
        let descriptors = match answer {
            Ok((Reply::Streams { streams }, descriptors)) => streams.into_iter().zip(descriptors).collect(),
            other => {
                sandbox.forget_exec(exec);
                return Err(match other {
                    Err(CallError::Failed(failure)) => failed("exec in", container, failure.message),
                    _ => sandbox.gone(),
                });
            }
        };
        let unfinished = Unfinished { sandbox: Arc::downgrade(&sandbox), container: container.to_owned(), exec };
        let exit = Exit { code: exit, unfinished: Some(unfinished) };
        assemble("exec in", container, descriptors, wants_input, exit)
    }

    /// Joins the streams of the container's first process from now on. `stdin` is there when the container has
    /// one.
    pub async fn attach(&self, container: &str) -> Result<Streams, Error> {
        self.attach_after(container, 0).await
    }

    /// Like [`Self::attach`] for a client that has read the first `seen` bytes of the container's log.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub async fn attach_after(&self, container: &str, seen: u64) -> Result<Streams, Error> {
        let (sandbox, _) = self.find_container(container)?;
        let exit = Exit { code: sandbox.expect_exit(container), unfinished: None };
        match sandbox.call(Operation::Attach { container: container.to_owned(), seen }).await {
            Ok((Reply::Streams { streams }, descriptors)) => {
                assemble("attach to", container, streams.into_iter().zip(descriptors).collect(), true, exit)
            }
            Ok(_) | Err(CallError::Gone) => Err(sandbox.gone()),
            Err(CallError::Failed(failure)) => Err(failed("attach to", container, failure.message)),
        }
    }

    /// Kills every shim and container of the data directory and removes their mounts, cgroups and files; works
    /// with no runtime open and after everything was killed. Blocking.
    pub fn destroy_all(root: &Path, cgroup_root: &str) -> Result<(), Error> {
        teardown::everything(root, cgroup_root)
    }

    fn sandboxes(&self) -> MutexGuard<'_, HashMap<String, Arc<Sandbox>>> {
        self.0.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        self.sandboxes().get(id).cloned().ok_or_else(|| Error::NoSandbox(id.to_owned()))
    }

    fn find_container(&self, id: &str) -> Result<(Arc<Sandbox>, ContainerStatus), Error> {
        let sandboxes = self.sandboxes();
        let mut found = sandboxes.values().filter_map(|sandbox| {
            let status = sandbox.model().containers.get(id).cloned()?;
            Some((Arc::clone(sandbox), status))
        });
        found.next().ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    fn warn(&self, warnings: &[String]) {
        let mut warned = self.0.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in warnings {
            if warned.insert(warning.clone()) {
                tracing::warn!("containers are degraded on this host: {warning}");
            }
        }
    }
}

fn failed(operation: &'static str, container: &str, message: String) -> Error {
    Error::Container { operation, container: container.to_owned(), message }
}

fn wrong_state(operation: &'static str, status: &ContainerStatus, needed: &'static str) -> Error {
    let state = match status.state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
    };
    Error::WrongState { operation, container: status.id.clone(), state, needed }
}

fn assemble(
    operation: &'static str,
    container: &str,
    descriptors: Vec<(StreamKind, OwnedFd)>,
    input: bool,
    exit: Exit,
) -> Result<Streams, Error> {
    let mut streams = Streams { stdin: None, stdout: None, stderr: None, resize: None, exit };
    let mut add = |kind, fd: OwnedFd| -> std::io::Result<()> {
        match kind {
            StreamKind::Stdin => streams.stdin = Some(StreamWriter::new(fd)?),
            StreamKind::Stdout => streams.stdout = Some(StreamReader::new(fd)?),
            StreamKind::Stderr => streams.stderr = Some(StreamReader::new(fd)?),
            StreamKind::Resize => streams.resize = Some(Terminal::new(fd)),
            StreamKind::Terminal => {
                if input {
                    streams.stdin = Some(StreamWriter::new(fd.try_clone()?)?);
                }
                streams.stdout = Some(StreamReader::new(fd.try_clone()?)?);
                streams.resize = Some(Terminal::new(fd));
            }
        }
        Ok(())
    };
    for (kind, fd) in descriptors {
        add(kind, fd).map_err(|e| failed(operation, container, format!("cannot use its streams: {e}")))?;
    }
    Ok(streams)
}

/// Runs file and cgroup work where it may block.
async fn blocking<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only while tokio itself is being shut down.
            Err(error) => Err(Error::Io { operation: "work on", path: "/".into(), source: error.into() }),
        },
    }
}
