//! What the client knows of one sandbox, kept current by its shim's messages.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connection::{CallError, Connection, Notice, Receiver};
use super::teardown;
use crate::layout::{self, ContainerRecord, SandboxDir, SandboxRecord};
use crate::status::{ContainerState, ContainerStatus, Event, ExitStatus, SandboxState, SandboxStatus};
use crate::wire::{Operation, Reply};
use crate::{Error, cgroup::Cgroups};

pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) directory: SandboxDir,
    pub(super) record: SandboxRecord,
    /// `None` when the shim was dead already.
    connection: Option<Connection>,
    model: Mutex<Model>,
    events: UnboundedSender<Event>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

pub(super) struct Model {
    pub(super) state: SandboxState,
    /// The end of the connection is expected.
    closing: bool,
    pub(super) containers: BTreeMap<String, ContainerStatus>,
    execs: HashMap<u64, oneshot::Sender<i32>>,
    attached: HashMap<String, Vec<oneshot::Sender<i32>>>,
}

impl Sandbox {
    pub(super) fn new(
        directory: SandboxDir,
        record: SandboxRecord,
        connection: Option<Connection>,
        state: SandboxState,
        events: UnboundedSender<Event>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: record.spec.id.clone(),
            directory,
            record,
            connection,
            model: Mutex::new(Model {
                state,
                closing: false,
                containers: BTreeMap::new(),
                execs: HashMap::new(),
                attached: HashMap::new(),
            }),
            events,
            reader: Mutex::new(None),
        })
    }

    /// Starts reading the connection. The task ends with it, and with the sandbox.
    pub(super) fn follow(self: &Arc<Self>, receiver: Receiver) {
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let applied = weak.clone();
            let apply = move |notice| {
                if let Some(sandbox) = applied.upgrade() {
                    sandbox.apply(notice);
                }
            };
            receiver.run(apply).await;
            if let Some(sandbox) = weak.upgrade() {
                sandbox.disconnected().await;
            }
        });
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Reads the containers of an earlier life, and announces those that have ended. The shim records an exit
    /// before it sends it, and what it sends is applied under the same lock: no exit falls in between.
    pub(super) fn load(&self) -> Result<(), Error> {
        let mut model = self.model();
        for (id, container) in teardown::containers(&self.directory)? {
            // Without its record it was never finished, and the sandbox's removal takes it along.
            let Ok(record) = layout::load::<ContainerRecord>(&container.record()) else { continue };
            let state = layout::load(&container.state()).unwrap_or(ContainerState::Created);
            if let ContainerState::Exited(status) = &state {
                let _ = self.events.send(exited(&self.id, &id, status));
            }
            model.containers.insert(id, container_status(&self.id, record, state));
        }
        Ok(())
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> SandboxStatus {
        let model = self.model();
        SandboxStatus {
            id: self.id.clone(),
            netns: self.netns(),
            created_at: self.record.created_at,
            state: model.state,
            spec: self.record.spec.clone(),
            containers: model.containers.values().cloned().collect(),
        }
    }

    fn netns(&self) -> PathBuf {
        if self.record.spec.host_network { PathBuf::from("/proc/self/ns/net") } else { self.directory.netns() }
    }

    pub(super) async fn call(&self, operation: Operation) -> Result<(Reply, Vec<OwnedFd>), CallError> {
        match &self.connection {
            Some(connection) => connection.call(operation).await,
            None => Err(CallError::Gone),
        }
    }

    pub(super) fn gone(&self) -> Error {
        Error::ShimGone { sandbox: self.id.clone() }
    }

    /// A new name for an exec and the future of its exit code.
    pub(super) fn expect_exec(&self) -> Result<(u64, oneshot::Receiver<i32>), Error> {
        let connection = self.connection.as_ref().ok_or_else(|| self.gone())?;
        let (exec, (sender, receiver)) = (connection.unique(), oneshot::channel());
        self.model().execs.insert(exec, sender);
        Ok((exec, receiver))
    }

    pub(super) fn forget_exec(&self, exec: u64) {
        self.model().execs.remove(&exec);
    }

    pub(super) fn expect_exit(&self, container: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        self.model().attached.entry(container.to_owned()).or_default().push(sender);
        receiver
    }

    /// The shim is about to be told to end.
    pub(super) fn expect_end(&self) {
        self.model().closing = true;
    }

    fn apply(&self, notice: Notice) {
        match notice {
            Notice::Started { container, pid, started_at } => {
                self.set_state(&container, ContainerState::Running { pid, started_at });
            }
            Notice::StartFailed { container, status } => self.set_state(&container, ContainerState::Exited(status)),
            Notice::Exited { container, status } => {
                self.set_state(&container, ContainerState::Exited(status.clone()));
                for waiting in self.model().attached.remove(&container).unwrap_or_default() {
                    let _ = waiting.send(status.exit_code);
                }
                // Nobody listens only while the runtime is being dropped.
                let _ = self.events.send(exited(&self.id, &container, &status));
            }
            Notice::ExecExited { exec, exit_code } => {
                if let Some(waiting) = self.model().execs.remove(&exec) {
                    let _ = waiting.send(exit_code);
                }
            }
            Notice::Nothing => {}
        }
    }

    fn set_state(&self, container: &str, state: ContainerState) {
        if let Some(status) = self.model().containers.get_mut(container) {
            status.state = state;
        }
    }

    /// Nobody holds the containers any more: they are killed and written off.
    async fn disconnected(self: Arc<Self>) {
        if self.model().closing {
            return;
        }
        let sandbox = Arc::clone(&self);
        let written_off = tokio::task::spawn_blocking(move || {
            let cgroups = Cgroups::discover()?;
            teardown::write_off(&sandbox.directory, &sandbox.record, &cgroups)
        });
        match written_off.await {
            Ok(Ok(states)) => {
                for (container, status) in states {
                    self.set_state(&container, ContainerState::Exited(status));
                }
            }
            Ok(Err(error)) => {
                tracing::error!(
                    sandbox = self.id,
                    error = crate::error::chain(&error),
                    "cannot clear up after a lost shim"
                );
            }
            Err(error) => tracing::error!(sandbox = self.id, %error, "clearing up after a lost shim broke off"),
        }
        {
            let mut model = self.model();
            model.state = SandboxState::NotReady;
            model.execs.clear();
            model.attached.clear();
        }
        let _ = self.events.send(Event::ShimLost { sandbox: self.id.clone() });
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            reader.abort();
        }
    }
}

fn exited(sandbox: &str, container: &str, status: &ExitStatus) -> Event {
    Event::ContainerExited {
        sandbox: sandbox.to_owned(),
        container: container.to_owned(),
        exit_code: status.exit_code,
        signal: status.signal,
        oom_killed: status.oom_killed,
        finished_at: status.finished_at,
    }
}

/// A container that was recorded, in the given state.
pub(super) fn container_status(sandbox: &str, record: ContainerRecord, state: ContainerState) -> ContainerStatus {
    let ContainerRecord { spec, created_at } = record;
    ContainerStatus {
        id: spec.id.clone(),
        sandbox: sandbox.to_owned(),
        name: spec.name.clone(),
        attempt: spec.attempt,
        image: spec.image.clone(),
        state,
        created_at,
        log_path: spec.log_path.clone(),
        labels: spec.labels.clone(),
        spec,
    }
}
