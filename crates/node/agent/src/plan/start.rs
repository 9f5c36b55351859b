//! The way up: volumes, sandbox, init containers in order, app containers together, restarts.

use std::time::Duration;

use api::pod::containers::is_sidecar;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use crate::plan::stop::Order;
use crate::plan::{Action, Plan, StopCause, grace, remove_sandbox, spec_hash, stop};
use crate::resize;
use crate::restart::{again, of_ephemeral};
use crate::state::{
    CrashBackoff, ERR_IMAGE_PULL, Failure, ImageState, Instance, PodState, PostStart, Record, Running, SandboxState,
    Volumes, later,
};

pub(super) fn bring_up(spec: &PodSpec, state: &PodState, now: Timestamp, plan: &mut Plan) {
    match &state.volumes {
        Volumes::Mounted => {}
        Volumes::Mounting { .. } => return,
        Volumes::Unmounted => return plan.actions.push(Action::MountVolumes),
        Volumes::Failed(failure) => {
            if plan.due(failure, now) {
                plan.actions.push(Action::MountVolumes);
            }
            return;
        }
        Volumes::NoImage { failure, .. } => {
            if plan.due(failure, now) {
                plan.actions.push(Action::MountVolumes);
            } else if has_been_shown(failure, now, plan) {
                plan.actions.push(Action::AnnounceVolumeBackOff);
            }
            return;
        }
    }
    // Whoever debugs a pod that does not come up needs it most then.
    let ephemeral: Vec<_> = spec.ephemeral_containers.iter().flatten().map(of_ephemeral).collect();
    let wanted: Vec<_> = ephemeral.iter().chain(wanted(spec, state)).collect();
    // Pulls run beside the making of the sandbox.
    for container in &wanted {
        let record = record(state, container);
        let idle = !matches!(record.instance, Instance::Running(_));
        if idle && may_start(spec, container, &record, now, plan) {
            ensure_image(container, &record, now, plan);
        }
    }
    match &state.sandbox {
        SandboxState::Ready { .. } => {}
        SandboxState::Absent => return plan.actions.push(Action::CreateSandbox),
        SandboxState::Failed(failure) => {
            if plan.due(failure, now) {
                plan.actions.push(Action::CreateSandbox);
            }
            return;
        }
        SandboxState::Lost { .. } | SandboxState::Stuck { .. } => {
            remove_sandbox(state, now, plan);
            return;
        }
    }
    if let Some(progress) = &state.progress {
        let something = !progress.widened || resize::left(spec, state, spec_hash) == resize::Left::Change;
        if something && progress.failure.as_ref().is_none_or(|failure| plan.due(failure, now)) {
            plan.actions.push(Action::Resize);
        }
    }
    // A container with a postStart hook holds back those after it until the hook is done.
    let mut held = false;
    for container in wanted {
        let record = record(state, container);
        let hooked = container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
        if let Instance::Running(running) = &record.instance {
            keep(spec, container, running, now, plan);
            held |= running.post_start == PostStart::Pending;
            continue;
        }
        let startable = !held && may_start(spec, container, &record, now, plan);
        held |= startable && hooked && !matches!(record.image, ImageState::Failed(_));
        if startable && matches!(record.image, ImageState::Present(_)) {
            let attempt = match record.instance {
                Instance::Ended(_) => record.attempt + 1,
                _ => record.attempt,
            };
            plan.actions.push(Action::Start { container: container.name.clone(), attempt });
        }
    }
}

fn record(state: &PodState, container: &Container) -> Record {
    state.containers.get(&container.name).cloned().unwrap_or_default()
}

/// The containers that should run now: sidecars and the first unfinished init container, or all app containers.
fn wanted<'a>(spec: &'a PodSpec, state: &PodState) -> Vec<&'a Container> {
    let mut wanted = Vec::new();
    // Once an app container has run, finished init containers are history (their records may be lost with a reboot).
    let initialised = spec.containers.iter().any(|container| {
        let record = record(state, container);
        record.attempt > 0 || !matches!(record.instance, Instance::None)
    });
    for container in spec.init_containers.iter().flatten() {
        let record = record(state, container);
        if is_sidecar(container) {
            wanted.push(container);
            if !initialised && !matches!(&record.instance, Instance::Running(running) if running.health.started) {
                return wanted;
            }
        } else if !initialised && !matches!(&record.instance, Instance::Ended(ended) if ended.succeeded()) {
            wanted.push(container);
            return wanted;
        }
    }
    wanted.extend(&spec.containers);
    wanted
}

/// Whether an instance should be started now; arms the timer of a back-off.
fn may_start(spec: &PodSpec, container: &Container, record: &Record, now: Timestamp, plan: &mut Plan) -> bool {
    if let Some(failure) = &record.failure
        && !plan.due(failure, now)
    {
        return false;
    }
    match &record.instance {
        Instance::None => true,
        Instance::Running(_) => false,
        Instance::Ended(ended) => {
            let restart = again(spec, container, ended);
            let at = CrashBackoff::restart_at(record.backoff, ended.exit.finished_at);
            if restart && now < at {
                plan.wake(at);
            }
            restart && now >= at
        }
    }
}

/// How long `ErrImagePull` is shown before `ImagePullBackOff`.
const SHOWN: Duration = Duration::from_secs(2);

fn failure_delay(failure: &Failure) -> SignedDuration {
    SignedDuration::try_from(failure.delay).unwrap_or(SignedDuration::ZERO)
}

/// First a failed pull itself is shown, then that it waits, as upstream's two states do; arms the timer of the second.
fn has_been_shown(failure: &Failure, now: Timestamp, plan: &mut Plan) -> bool {
    if failure.reason != ERR_IMAGE_PULL {
        return false;
    }
    let at = later(failure.retry_at, SHOWN).checked_sub(failure_delay(failure)).unwrap_or(now);
    if now < at {
        plan.wake(at);
    }
    now >= at
}

fn ensure_image(container: &Container, record: &Record, now: Timestamp, plan: &mut Plan) {
    let due = match &record.image {
        ImageState::Unknown => true,
        ImageState::Failed(failure) => {
            let due = plan.due(failure, now);
            if !due && has_been_shown(failure, now, plan) {
                plan.actions.push(Action::AnnounceBackOff { container: container.name.clone() });
            }
            due
        }
        ImageState::Pulling { .. } | ImageState::Present(_) => false,
    };
    if due {
        plan.actions.push(Action::EnsureImage { container: container.name.clone() });
    }
}

/// A running container whose hook or probes failed or whose spec changed is stopped; its exit then leads to a restart.
fn keep(spec: &PodSpec, container: &Container, running: &Running, now: Timestamp, plan: &mut Plan) {
    let order = match (&running.stop, running.health.failed) {
        (None, _) if running.post_start == PostStart::Failed => {
            Order { cause: StopCause::PostStartFailed, grace: grace(spec), deadline: later(now, grace(spec)) }
        }
        (Some(stop), _) => Order { cause: StopCause::SpecChanged, grace: Duration::ZERO, deadline: stop.deadline },
        (None, Some(kind)) => {
            let grace = probe_grace(spec, container, kind);
            Order { cause: StopCause::ProbeFailed(kind), grace, deadline: later(now, grace) }
        }
        (None, None) if running.spec_hash != spec_hash(container) => {
            Order { cause: StopCause::SpecChanged, grace: grace(spec), deadline: later(now, grace(spec)) }
        }
        (None, None) => return,
    };
    stop::container(&container.name, running, order, now, plan);
}

/// A probe may set its own grace period for the restart it causes.
fn probe_grace(spec: &PodSpec, container: &Container, kind: crate::state::ProbeKind) -> Duration {
    let probe = match kind {
        crate::state::ProbeKind::Startup => &container.startup_probe,
        _ => &container.liveness_probe,
    };
    probe
        .as_ref()
        .and_then(|probe| probe.termination_grace_period_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or_else(|| grace(spec), Duration::from_secs)
}
