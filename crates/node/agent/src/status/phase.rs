//! The pod's phase from its containers, as upstream's kubelet derives it.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::restart::again;
use crate::state::{Ended, Instance, PodState, PostStart, Terminal};
use api::pod::containers::is_sidecar;

pub(super) fn phase(spec: &PodSpec, state: &PodState) -> &'static str {
    match state.terminal {
        Some(Terminal::Succeeded) => "Succeeded",
        Some(Terminal::Failed) => "Failed",
        None if running(spec, state) => "Running",
        None => "Pending",
    }
}

/// Once every app container has been started, the pod is Running until it is terminal.
fn running(spec: &PodSpec, state: &PodState) -> bool {
    spec.containers.iter().all(|container| {
        state.containers.get(&container.name).is_some_and(|record| {
            let up = match &record.instance {
                Instance::None => false,
                Instance::Running(running) => running.post_start != PostStart::Pending,
                Instance::Ended(_) => true,
            };
            up || record.attempt > 0 || record.previous.is_some()
        })
    })
}

/// Whether the pod is over for good: no container runs and none will be started again.
pub fn terminal(spec: &PodSpec, state: &PodState) -> Option<Terminal> {
    if state.terminal.is_some() {
        return state.terminal;
    }
    let instance = |name: &str| state.containers.get(name).map_or(&Instance::None, |record| &record.instance);
    let running = |instance: &Instance| matches!(instance, Instance::Running(_));
    if state.failure.is_some() {
        // Told once nothing runs any more.
        let runs = state.containers.values().any(|record| running(&record.instance));
        return (!runs).then_some(Terminal::Failed);
    }
    // Under termination nothing is restarted, whatever the policy.
    let terminating = state.termination.is_some();
    let again = |container: &Container, ended: &Ended| !terminating && again(spec, container, ended);
    for init in spec.init_containers.iter().flatten().filter(|init| !is_sidecar(init)) {
        match instance(&init.name) {
            Instance::Ended(ended) if !ended.succeeded() && !again(init, ended) => return Some(Terminal::Failed),
            Instance::Running(_) => return None,
            _ => {}
        }
    }
    let mut failed = false;
    let mut started = false;
    for container in &spec.containers {
        match instance(&container.name) {
            Instance::Running(_) => return None,
            Instance::None if !terminating => return None,
            Instance::None => failed = true,
            Instance::Ended(ended) if again(container, ended) => return None,
            Instance::Ended(ended) => {
                started = true;
                failed |= !ended.succeeded();
            }
        }
    }
    let over = !terminating || started || state.sandbox.id().is_none();
    over.then_some(if failed { Terminal::Failed } else { Terminal::Succeeded })
}
