//! The way down: withdraw, stop signal, kill at the deadline.

use std::time::Duration;

use api::pod::containers::is_sidecar;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::plan::{Action, Plan, StopCause, grace};
use crate::state::{Instance, PodState, Running, Stage, Termination, later};

/// Upstream's shortest grace: even a forced deletion lets processes see their signal.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);

/// Milliseconds are usual. Waited for in full only while a node that counts as ready says nothing, or is too busy to.
const LONGEST_WITHDRAWAL: Duration = Duration::from_secs(10);

/// How long a stop signal may wait for the withdrawal: what comes of it in time is a client's connection.
fn withdrawal_limit(grace: Duration) -> Duration {
    (grace / 4).min(LONGEST_WITHDRAWAL)
}

/// The termination that the object asks for, if any; a later request can only shorten one under way.
pub fn deleted(pod: &Pod, current: Option<&Termination>, gone: bool, now: Timestamp) -> Option<Termination> {
    let requested = pod.metadata.deletion_timestamp.as_ref();
    if requested.is_none() && !gone {
        return current.cloned();
    }
    let asked = pod.metadata.deletion_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let spec_grace = || pod.spec.as_ref().map_or(SHORTEST_GRACE, grace);
    let grace = match (gone, asked) {
        // The object went away under a running pod: somebody forced it.
        (true, _) => Duration::ZERO,
        (false, Some(seconds)) => Duration::from_secs(seconds),
        (false, None) => spec_grace(),
    };
    let mut deadline = later(now, grace.max(SHORTEST_GRACE));
    if let Some(requested) = requested {
        // After a restart of the agent the grace still counts from the deletion. The API truncates to seconds.
        deadline = deadline.min(later(requested.0, SHORTEST_GRACE)).max(later(now, SHORTEST_GRACE));
    }
    if let Some(current) = current {
        deadline = deadline.min(current.deadline);
    }
    Some(Termination { grace, deadline, object_gone: gone || current.is_some_and(|current| current.object_gone) })
}

/// How a container is to be stopped.
#[derive(Clone, Copy)]
pub(super) struct Order {
    pub cause: StopCause,
    /// Zero skips the wait for the withdrawal.
    pub grace: Duration,
    pub deadline: Timestamp,
}

/// Stops every running container, sidecars after the others and one by one, the last one first; their preStop hooks
/// wait for no turn. Whether all are dead.
pub(super) fn containers(spec: &PodSpec, state: &PodState, order: Order, now: Timestamp, plan: &mut Plan) -> bool {
    let running = |name: &str| match state.containers.get(name).map(|record| &record.instance) {
        Some(Instance::Running(running)) => Some(running.clone()),
        _ => None,
    };
    let (sidecars, init): (Vec<_>, Vec<_>) = spec.init_containers.iter().flatten().partition(|init| is_sidecar(init));
    let mut apps_dead = true;
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|ephemeral| &ephemeral.name);
    for app in init.into_iter().chain(&spec.containers).map(|app| &app.name).chain(ephemeral) {
        if let Some(running) = running(app) {
            apps_dead = false;
            container(app, &running, order, now, plan);
        }
    }
    let mut turn = apps_dead;
    for sidecar in sidecars.into_iter().rev() {
        if let Some(running) = running(&sidecar.name) {
            one(&sidecar.name, &running, order, turn, now, plan);
            turn = false;
        }
    }
    turn
}

/// The next step down for one running container.
pub(super) fn container(name: &str, running: &Running, order: Order, now: Timestamp, plan: &mut Plan) {
    one(name, running, order, true, now, plan);
}

/// Before its turn a container is drained, and signalled at the deadline only.
fn one(name: &str, running: &Running, order: Order, turn: bool, now: Timestamp, plan: &mut Plan) {
    let container = name.to_owned();
    let Some(stop) = &running.stop else {
        let Order { cause, grace, deadline } = order;
        plan.actions.push(Action::Drain { container, withdrawal: withdrawal_limit(grace), deadline, cause });
        return;
    };
    if stop.stage < Stage::Killed && order.deadline < stop.deadline {
        plan.actions.push(Action::Hasten { container, deadline: order.deadline });
        return;
    }
    match stop.stage {
        Stage::Killed => {}
        Stage::Signalled { .. } if now >= stop.kill_at() => {
            plan.actions.push(Action::Signal { container, kill: true });
        }
        Stage::Signalled { .. } => plan.wake(stop.kill_at()),
        Stage::Drained if turn => plan.actions.push(Action::Signal { container, kill: false }),
        // The preStop hook, or the containers before this one, took all the time there was.
        _ if now >= stop.deadline => plan.actions.push(Action::Signal { container, kill: false }),
        Stage::Draining | Stage::Drained => plan.wake(stop.deadline),
    }
}
