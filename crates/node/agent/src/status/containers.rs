//! One container's status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    PodSpec, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::restart::{Role, again, role};
use crate::state::{CrashBackoff, Ended, Failure, ImageRef, Instance, PodState, PostStart, Record, Volumes};
use api::pod::containers::is_sidecar;

pub(super) fn status(
    spec: &PodSpec,
    container: &Container,
    state: &PodState,
    old: &[ContainerStatus],
    phase: &str,
) -> ContainerStatus {
    let init = spec.init_containers.iter().flatten().any(|init| init.name == container.name);
    let Some(record) = state.containers.get(&container.name) else {
        // Nothing known: either never started, or finished before this agent was.
        if let Some(old) = old.iter().find(|old| old.name == container.name)
            && (phase == "Succeeded" || phase == "Failed" || old.state.as_ref().is_some_and(|s| s.terminated.is_some()))
        {
            return old.clone();
        }
        return bare(container, not_begun(spec, &state.volumes, None, init), init);
    };
    let (current, ended) = current_state(spec, container, state, record, init);
    let running = match &record.instance {
        Instance::Running(running) => Some(running),
        _ => None,
    };
    let image = match (&record.instance, &record.previous) {
        (Instance::Running(running), _) => running.image.clone(),
        (Instance::Ended(ended), _) | (Instance::None, Some(ended)) => ended.image.clone(),
        (Instance::None, None) => ImageRef { name: container.image.clone().unwrap_or_default(), id: String::new() },
    };
    let id = match &record.instance {
        Instance::Running(running) => Some(&running.id),
        Instance::Ended(ended) => Some(&ended.id),
        Instance::None => record.previous.as_ref().map(|previous| &previous.id),
    };
    let started = running.is_some_and(|running| running.health.started);
    let ephemeral = role(spec, &container.name) == Role::Ephemeral;
    let ready = match (&record.instance, init && !is_sidecar(container)) {
        (Instance::Ended(ended), true) => ended.succeeded(),
        (Instance::Running(running), false) => {
            // On its way to a restart it takes no more traffic; a deleted pod's readiness stays the probe's.
            !ephemeral && running.health.ready && (running.stop.is_none() || state.termination.is_some())
        }
        _ => false,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: image.name,
        image_id: image.id,
        container_id: id.filter(|id| !id.is_empty()).map(|id| format!("{}://{id}", state.runtime)),
        state: Some(current),
        last_state: Some(ended.map_or_else(ContainerState::default, |ended| terminated(ended, &state.runtime))),
        ready,
        started: Some(started).filter(|_| !ephemeral),
        restart_count: i32::try_from(record.attempt).unwrap_or(i32::MAX),
        volume_mounts: volume_mounts(container),
        allocated_resources: allocated(container),
        resources: Some(running.map_or_else(|| given(container), |running| running.resources.clone())),
        user: record.user.clone(),
        ..ContainerStatus::default()
    }
}

/// What the node keeps for it.
fn allocated(container: &Container) -> Option<BTreeMap<String, Quantity>> {
    container.resources.as_ref().and_then(|resources| resources.requests.clone())
}

fn given(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// The state to show, and the instance to show as the last one.
fn current_state<'a>(
    spec: &PodSpec,
    container: &Container,
    state: &PodState,
    record: &'a Record,
    init: bool,
) -> (ContainerState, Option<&'a Ended>) {
    let previous = record.previous.as_ref();
    match &record.instance {
        // As upstream, which tells nothing of a container before its hook is done.
        Instance::Running(running) if running.post_start == PostStart::Pending => {
            (waiting(initial_reason(spec, init), None), previous)
        }
        Instance::Running(running) => {
            let running = ContainerStateRunning { started_at: Some(Time(running.started_at)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, previous)
        }
        Instance::Ended(ended) => {
            if !restarts(spec, container, state, ended) {
                return (terminated(ended, &state.runtime), previous);
            }
            if let Some(failure) = record.waiting_for() {
                return (waiting(failure.reason, Some(failure.message.clone())), Some(ended));
            }
            // The first restart is immediate; only a wait is worth telling.
            match record.backoff {
                Some(_)
                    if CrashBackoff::restart_at(record.backoff, ended.exit.finished_at) > ended.exit.finished_at =>
                {
                    (waiting("CrashLoopBackOff", Some(ended.message_of_backoff(record, container, state))), Some(ended))
                }
                _ => (terminated(ended, &state.runtime), previous),
            }
        }
        Instance::None => (not_begun(spec, &state.volumes, record.waiting_for(), init), previous),
    }
}

/// Of a container that was never made: what it waits for itself, else the image of a volume, else its turn.
fn not_begun(spec: &PodSpec, volumes: &Volumes, own: Option<&Failure>, init: bool) -> ContainerState {
    let of_volume = match volumes {
        Volumes::NoImage { failure, .. } => Some(failure),
        _ => None,
    };
    match own.or(of_volume) {
        Some(failure) => waiting(failure.reason, Some(failure.message.clone())),
        None => waiting(initial_reason(spec, init), None),
    }
}

fn restarts(spec: &PodSpec, container: &Container, state: &PodState, ended: &Ended) -> bool {
    if state.termination.is_some() || state.terminal.is_some() || state.failure.is_some() {
        return false;
    }
    again(spec, container, ended)
}

fn initial_reason(spec: &PodSpec, init: bool) -> &'static str {
    if init || spec.init_containers.as_ref().is_none_or(Vec::is_empty) {
        "ContainerCreating"
    } else {
        "PodInitializing"
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn bare(container: &Container, state: ContainerState, init: bool) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(state),
        last_state: Some(ContainerState::default()),
        started: Some(false).filter(|_| !init || is_sidecar(container)),
        volume_mounts: volume_mounts(container),
        allocated_resources: allocated(container),
        resources: Some(given(container)),
        ..ContainerStatus::default()
    }
}

/// Whether what is mounted below a mount is read-only, too, is told of those that are.
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
            if recursive { "Enabled".into() } else { "Disabled".into() }
        }),
        ..VolumeMountStatus::default()
    };
    container.volume_mounts.as_ref().map(|mounts| mounts.iter().map(status).collect())
}

fn terminated(ended: &Ended, runtime: &str) -> ContainerState {
    let exit = &ended.exit;
    let terminated = ContainerStateTerminated {
        exit_code: exit.exit_code,
        signal: None, // upstream's runtimes fold the signal into the exit code
        reason: Some(exit.reason().to_owned()),
        message: (!exit.message.is_empty()).then(|| exit.message.clone()),
        started_at: exit.started_at.map(Time),
        finished_at: Some(Time(exit.finished_at)),
        container_id: (!ended.id.is_empty()).then(|| format!("{runtime}://{}", ended.id)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

impl Ended {
    fn message_of_backoff(&self, record: &Record, container: &Container, state: &PodState) -> String {
        let seconds = record.backoff.map_or(0, |backoff| backoff.delay.as_secs());
        let delay = go_duration(seconds);
        format!("back-off {delay} restarting failed container={} pod={}", container.name, state.full_name)
    }
}

/// Whole seconds as Go prints a duration.
fn go_duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
