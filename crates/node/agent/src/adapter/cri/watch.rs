//! How containers and sandboxes end: by the ends of their processes, and by a look at everything from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base_sys::process::Process;
use node_grpc::messages::cri;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Core, REQUEST, is_not_found, locked, logs, state};
use crate::pods::unknown_exit;
use crate::seams::{ContainerState, Exit, RuntimeEvent, SeamError, chain};

/// How often everything is looked at where ends are told, and where they are not (upstream's).
const TOLD: Duration = Duration::from_secs(10);
const UNTOLD: Duration = Duration::from_secs(1);
/// How soon the runtime knows of an end that the kernel has told: it is asked at growing distances.
const SOON: [u64; 7] = [0, 5, 10, 20, 50, 100, 500];

pub(super) enum Follow {
    /// A container that has been started.
    Container {
        sandbox: String,
        container: String,
        pid: Option<u32>,
    },
    Sandbox {
        sandbox: String,
        pid: Option<u32>,
    },
    /// The sandbox is being stopped: its end is nobody's news.
    Nothing {
        sandbox: String,
    },
}

/// What a task has found of what it followed.
enum Found {
    Exited {
        container: String,
        exit: Exit,
    },
    Lost {
        sandbox: String,
    },
    /// Its process cannot be followed: it is looked for.
    Untold {
        id: String,
    },
}

#[derive(Default)]
struct Followed {
    /// With their sandboxes.
    running: BTreeMap<String, String>,
    ready: BTreeSet<String>,
    untold: BTreeSet<String>,
}

pub(super) async fn run(
    core: Arc<Core>,
    mut follows: mpsc::UnboundedReceiver<Follow>,
    events: mpsc::UnboundedSender<RuntimeEvent>,
) {
    let mut followed = Followed::default();
    let mut ends = JoinSet::new();
    loop {
        let soon = core.trouble.borrow().is_some() || !followed.untold.is_empty();
        let found = tokio::select! {
            biased;
            Some(follow) = follows.recv() => {
                followed.begin(&core, follow, &mut ends);
                continue;
            }
            Some(end) = ends.join_next() => end.into_iter().collect(),
            () = tokio::time::sleep(if soon { UNTOLD } else { TOLD }) => look(&core, &followed).await,
        };
        for found in found {
            if let Some(event) = followed.end(found)
                && events.send(event).is_err()
            {
                return;
            }
        }
    }
}

impl Followed {
    fn begin(&mut self, core: &Arc<Core>, follow: Follow, ends: &mut JoinSet<Found>) {
        let core = Arc::clone(core);
        match follow {
            Follow::Container { sandbox, container, pid } => {
                if self.running.insert(container.clone(), sandbox).is_none() {
                    ends.spawn(async move {
                        ended(pid).await;
                        core.exit(container).await
                    });
                }
            }
            Follow::Sandbox { sandbox, pid } => {
                if self.ready.insert(sandbox.clone()) {
                    ends.spawn(async move {
                        ended(pid).await;
                        core.loss(sandbox).await
                    });
                }
            }
            Follow::Nothing { sandbox } => {
                let gone: Vec<_> =
                    self.running.iter().filter(|(_, of)| **of == sandbox).map(|(id, _)| id.clone()).collect();
                for id in gone.iter().chain([&sandbox]) {
                    self.running.remove(id);
                    self.untold.remove(id);
                }
                self.ready.remove(&sandbox);
            }
        }
    }

    /// The event of what was found, unless it is known.
    fn end(&mut self, found: Found) -> Option<RuntimeEvent> {
        match found {
            Found::Exited { container, exit } => {
                self.untold.remove(&container);
                let sandbox = self.running.remove(&container)?;
                Some(RuntimeEvent::ContainerExited { sandbox, container, exit })
            }
            Found::Lost { sandbox } => {
                self.untold.remove(&sandbox);
                self.ready.remove(&sandbox).then_some(RuntimeEvent::SandboxLost { sandbox })
            }
            Found::Untold { id } => {
                if self.running.contains_key(&id) || self.ready.contains(&id) {
                    self.untold.insert(id);
                }
                None
            }
        }
    }
}

/// Resolves at the process's end; at once when there is none to follow.
async fn ended(pid: Option<u32>) {
    if let Some(Ok(process)) = pid.map(Process::of) {
        // What fails here is found by looking.
        let _ = process.ended().await;
    }
}

impl Core {
    /// The end of a container whose process has ended.
    async fn exit(&self, container: String) -> Found {
        for wait in SOON {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if let Some(exit) = self.exited(&container).await {
                return Found::Exited { container, exit };
            }
        }
        Found::Untold { id: container }
    }

    async fn exited(&self, container: &str) -> Option<Exit> {
        match self.container_status(container).await.map(|answer| state::container(&answer.status.unwrap_or_default()))
        {
            Ok(ContainerState::Exited(exit)) => {
                locked(&self.states).insert(container.to_owned(), ContainerState::Exited(exit.clone()));
                Some(exit)
            }
            Err(error) if is_not_found(&error) => {
                Some(unknown_exit(jiff::Timestamp::now(), "The container could not be located"))
            }
            Ok(_) | Err(_) => None,
        }
    }

    async fn loss(&self, sandbox: String) -> Found {
        for wait in SOON {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let lost = match self.sandbox_status(&sandbox).await {
                Ok(answer) => answer.status.unwrap_or_default().state != cri::PodSandboxState::Ready as i32,
                Err(error) => is_not_found(&error),
            };
            if lost {
                return Found::Lost { sandbox };
            }
        }
        Found::Untold { id: sandbox }
    }

    /// Whether the runtime can run and connect pods, for whoever watches.
    pub(super) async fn look_at_runtime(&self) -> Result<(), SeamError> {
        let answer: Result<cri::StatusResponse, _> =
            self.endpoint.ask("ask for the status of", (cri::STATUS, "the container runtime"), &false, REQUEST).await;
        let trouble = match &answer {
            Ok(answer) => answer.status.as_ref().and_then(state::trouble),
            Err(error) => Some(format!("container runtime is down: {}", chain(error))),
        };
        self.trouble.send_if_modified(|known| {
            let changed = *known != trouble;
            *known = trouble;
            changed
        });
        answer.map(drop)
    }
}

/// What has ended of what is followed.
async fn look(core: &Core, followed: &Followed) -> Vec<Found> {
    let mut found = Vec::new();
    if core.look_at_runtime().await.is_err() {
        return found;
    }
    // A runtime that does not answer has ended nothing.
    let (Ok(sandboxes), Ok(containers)) = (core.listed_sandboxes().await, core.listed_containers().await) else {
        return found;
    };
    let runs: BTreeSet<_> = containers
        .iter()
        .filter(|container| container.state == cri::ContainerState::Running as i32)
        .map(|container| container.id.as_str())
        .collect();
    let ready: BTreeSet<_> = sandboxes
        .iter()
        .filter(|sandbox| sandbox.state == cri::PodSandboxState::Ready as i32)
        .map(|sandbox| sandbox.id.as_str())
        .collect();
    for container in followed.running.keys().filter(|id| !runs.contains(id.as_str())) {
        if let Some(exit) = core.exited(container).await {
            found.push(Found::Exited { container: container.clone(), exit });
        }
    }
    let lost = followed.ready.iter().filter(|id| !ready.contains(id.as_str()));
    found.extend(lost.map(|sandbox| Found::Lost { sandbox: sandbox.clone() }));
    for container in containers.iter().filter(|container| followed.running.contains_key(&container.id)) {
        if let Err(error) = logs::bound(core, container).await {
            tracing::warn!(container = container.id, error = chain(&error), "log not rotated");
        }
    }
    found
}
