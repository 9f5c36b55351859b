//! Taking over what an earlier agent left running: nothing is restarted for the agent's own sake.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};

use crate::pods::Message;
use crate::pods::fold::unknown_exit;
use crate::pods::worker::Worker;
use crate::seams::{Container, ContainerState, Exit, Sandbox, chain, label};
use crate::state::{Ended, Health, Held, ImageRef, Instance, PostStart, Record, Running, SandboxState, Terminal};

impl Worker {
    pub(super) async fn adopt(&mut self, mut sandboxes: Vec<Sandbox>) {
        self.recall_status();
        self.recall_allocated();
        if self.machine.csi.holds(self.uid()) {
            self.state.held = Held::Some;
        }
        sandboxes.sort_by_key(|sandbox| (sandbox.ready, sandbox.created_at));
        let Some(sandbox) = sandboxes.pop() else { return };
        for older in sandboxes {
            self.discard(&older.id).await;
        }
        for (name, container) in latest(sandbox.containers.clone()) {
            self.adopt_container(&name, container).await;
        }
        self.state.sandbox = if !sandbox.ready {
            SandboxState::Lost { id: sandbox.id }
        } else {
            match self.connect(&sandbox).await {
                Ok(ips) => {
                    self.state.last_ips.clone_from(&ips);
                    SandboxState::Ready { id: sandbox.id, ips }
                }
                Err(error) => {
                    tracing::error!(pod = %self.state.full_name, error = %chain(&error), "network of a running pod lost");
                    let _ = self.outbox.send(Message::SandboxLost);
                    SandboxState::Ready { id: sandbox.id, ips: Vec::new() }
                }
            }
        };
        let running: Vec<_> = self.state.containers.keys().cloned().collect();
        for name in running {
            self.resume_probes(&name);
        }
    }

    async fn discard(&self, id: &str) {
        self.machine.routes.remove(id);
        let _ = self.machine.network.detach(id).await;
        let _ = self.machine.runtime.stop_sandbox(id).await;
        if let Err(error) = self.machine.runtime.remove_sandbox(id).await {
            tracing::warn!(sandbox = id, error = %chain(&error), "superseded sandbox not removed");
        }
    }

    /// What the API remembers: restart counts, last states, a finished pod's end.
    fn recall_status(&mut self) {
        let Some(status) = self.pod.status.clone() else { return };
        if let Some(start) = &status.start_time {
            self.state.started_at = Some(start.0);
        }
        self.state.terminal = match status.phase.as_deref() {
            Some("Succeeded") => Some(Terminal::Succeeded),
            Some("Failed") => Some(Terminal::Failed),
            _ => None,
        };
        if self.state.terminal.is_some() {
            return; // its container statuses stay as they are
        }
        let now = self.now();
        let lists = [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses];
        let known = lists.into_iter().flatten().flatten();
        for status in known {
            if let Some(record) = recall(&status, now) {
                self.state.containers.insert(status.name, record);
            }
        }
    }

    async fn adopt_container(&mut self, name: &str, container: Container) {
        let text = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let attempt = text(label::ATTEMPT).parse().unwrap_or(0);
        let image = ImageRef { name: text(label::IMAGE), id: text(label::IMAGE_ID) };
        let recalled = self.state.containers.remove(name);
        let user = self.user_of(&container.id).await;
        let instance = match container.state {
            ContainerState::Running { started_at } => Instance::Running(Running {
                id: container.id,
                image,
                spec_hash: text(label::SPEC_HASH),
                resources: self.allocated.get(name).cloned().unwrap_or_default(),
                stop_signal: Some(text(label::STOP_SIGNAL)).filter(|signal| !signal.is_empty()),
                started_at,
                // Hooks run once, also when nobody saw how they ended.
                post_start: PostStart::Done,
                health: Health::default(),
                stop: None,
            }),
            ContainerState::Exited(exit) => Instance::Ended(Ended { id: container.id, image, exit, anew: false }),
            ContainerState::Created => {
                // The agent died between creating and starting it.
                let _ = self.machine.runtime.remove_container(&container.id).await;
                self.state.containers.insert(name.to_owned(), recalled.unwrap_or_default());
                return;
            }
        };
        let previous = match recalled {
            // What the API took for running is an instance before this one.
            Some(Record { attempt: old, instance: Instance::Ended(ended), .. }) if old < attempt => Some(ended),
            Some(record) => record.previous,
            None => None,
        };
        let record = Record { attempt, instance, user, previous, ..Record::default() };
        self.state.containers.insert(name.to_owned(), record);
    }

    /// Probes go on where they were: a container that was ready stays so until a probe says otherwise.
    fn resume_probes(&mut self, name: &str) {
        let known = self.pod.status.iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        let known = known.into_iter().find(|status| status.name == name).cloned();
        let id = match self.state.containers.get(name).map(|record| &record.instance) {
            Some(Instance::Running(running)) => running.id.clone(),
            _ => return,
        };
        let same = known.filter(|status| bare_id(status.container_id.as_deref()) == id);
        if same.as_ref().is_some_and(|status| status.started == Some(true)) {
            self.started(name);
        } else {
            self.begin_probes(name);
        }
        if same.is_some_and(|status| status.ready)
            && let Some(record) = self.state.containers.get_mut(name)
            && let Instance::Running(running) = &mut record.instance
        {
            running.health.ready = true;
        }
    }
}

/// The newest instance of each container.
fn latest(containers: Vec<Container>) -> BTreeMap<String, Container> {
    let attempt = |container: &Container| {
        container.labels.get(label::ATTEMPT).and_then(|attempt| attempt.parse::<u32>().ok()).unwrap_or(0)
    };
    let mut latest: BTreeMap<String, Container> = BTreeMap::new();
    for container in containers {
        let Some(name) = container.labels.get(label::CONTAINER_NAME).cloned() else { continue };
        if latest.get(&name).is_none_or(|known| attempt(known) < attempt(&container)) {
            latest.insert(name, container);
        }
    }
    latest
}

/// Without its runtime's name.
fn bare_id(id: Option<&str>) -> String {
    let id = id.unwrap_or_default();
    id.split_once("://").map_or(id, |(_, bare)| bare).to_owned()
}

/// A container of which the runtime knows nothing any more (a reboot), from its last status.
fn recall(status: &ContainerStatus, now: jiff::Timestamp) -> Option<Record> {
    let image = ImageRef { name: status.image.clone(), id: status.image_id.clone() };
    let id = bare_id(status.container_id.as_deref());
    let state = status.state.clone().unwrap_or_default();
    let previous = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let previous = previous.map(|terminated| ended(terminated, &image));
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    let instance = match (state.running, state.terminated) {
        (Some(running), _) => {
            let mut exit = unknown_exit(now, "The container could not be located when the node agent started");
            exit.started_at = running.started_at.map(|time| time.0);
            Instance::Ended(Ended { id, image, exit, anew: false })
        }
        (None, Some(terminated)) => Instance::Ended(ended(&terminated, &image)),
        // Waiting for its next instance.
        (None, None) => match previous.clone() {
            Some(ended) => Instance::Ended(ended),
            None => return None,
        },
    };
    Some(Record { attempt, instance, user: status.user.clone(), previous, ..Record::default() })
}

fn ended(terminated: &ContainerStateTerminated, image: &ImageRef) -> Ended {
    let reason = terminated.reason.clone();
    let finished_at = terminated.finished_at.as_ref().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0);
    Ended {
        id: bare_id(terminated.container_id.as_deref()),
        image: image.clone(),
        exit: Exit {
            exit_code: terminated.exit_code,
            signal: None,
            oom_killed: reason.as_deref() == Some("OOMKilled"),
            started_at: terminated.started_at.as_ref().map(|time| time.0),
            finished_at,
            // The plain reasons follow from the exit code.
            reason: reason.filter(|reason| !matches!(reason.as_str(), "Completed" | "Error" | "OOMKilled")),
            message: terminated.message.clone().unwrap_or_default(),
        },
        anew: false,
    }
}
