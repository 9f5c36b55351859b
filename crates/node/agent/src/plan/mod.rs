//! What to do next for one pod: pure, from (spec, observed state, time) to actions.
//!
//! Level-triggered: the worker executes the actions, folds their outcome into the state and plans again, until a plan
//! is empty; then it sleeps until an event or [`Plan::wake_at`].

mod start;
mod stop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::plan::stop::Order;
use crate::resize;
use crate::state::{Failure, Held, PodState, Removal, SandboxState, Termination, Volumes, later};

pub use stop::deleted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    MountVolumes,
    CreateSandbox,
    /// Look the image up, pull it as the policy says.
    EnsureImage {
        container: String,
    },
    /// A pull failed a moment ago: from `ErrImagePull` to `ImagePullBackOff`.
    AnnounceBackOff {
        container: String,
    },
    /// The same of the image of a volume.
    AnnounceVolumeBackOff,
    /// Create and start instance number `attempt`.
    Start {
        container: String,
        attempt: u32,
    },
    /// Begin a stop: steer traffic away (at most `withdrawal`; zero skips the wait) and run
    /// the preStop hook, both at most until `deadline`.
    Drain {
        container: String,
        withdrawal: Duration,
        deadline: Timestamp,
        cause: StopCause,
    },
    /// Send the stop signal (`SIGKILL` with `kill`).
    Signal {
        container: String,
        kill: bool,
    },
    /// Bring what the pod was given to what runs.
    Resize,
    /// A stop under way must end sooner.
    Hasten {
        container: String,
        deadline: Timestamp,
    },
    RemoveSandbox,
    /// Drivers let go of the pod's volumes.
    ReleaseVolumes,
    /// The pod is over: what its volumes take of disk and memory is the node's again.
    RemoveVolumes,
    DeleteObject,
    /// Nothing of the pod is left anywhere: the worker ends.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    PodDeleted,
    ProbeFailed(crate::state::ProbeKind),
    SpecChanged,
    PostStartFailed,
    PodFailed,
    /// Its sidecar's pod is done.
    PodCompleted,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Plan again then, though nothing happened.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Whether a failed step may be tried again; arms the timer when not.
    fn due(&mut self, failure: &Failure, now: Timestamp) -> bool {
        let due = now >= failure.retry_at;
        if !due {
            self.wake(failure.retry_at);
        }
        due
    }
}

pub fn plan(pod: &Pod, state: &PodState, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &pod.spec else { return plan };
    match (&state.termination, state.terminal) {
        (Some(Termination { grace, deadline, .. }), _) => {
            let order = Order { cause: StopCause::PodDeleted, grace: *grace, deadline: *deadline };
            if stop::containers(spec, state, order, now, &mut plan) {
                remove(state, now, &mut plan);
            }
        }
        (None, None) if state.failure.is_some() => {
            let grace = state.failure.as_ref().and_then(|failure| failure.grace).unwrap_or_else(|| grace(spec));
            let order = Order { cause: StopCause::PodFailed, grace, deadline: later(now, grace) };
            stop::containers(spec, state, order, now, &mut plan);
        }
        (None, Some(_)) => {
            let order = Order { cause: StopCause::PodCompleted, grace: grace(spec), deadline: later(now, grace(spec)) };
            let dead = stop::containers(spec, state, order, now, &mut plan);
            let left = dead && remove_sandbox(state, now, &mut plan) && release_volumes(state, now, &mut plan);
            if left && state.volumes == Volumes::Mounted {
                plan.actions.push(Action::RemoveVolumes);
            }
        }
        (None, None) => {
            start::bring_up(spec, state, now, &mut plan);
            if let Some(at) = active_until(spec, state) {
                plan.wake(at);
            }
        }
    }
    plan
}

/// Everything is dead: take the sandbox away, then the object, then the worker itself.
fn remove(state: &PodState, now: Timestamp, plan: &mut Plan) {
    if !remove_sandbox(state, now, plan) || !release_volumes(state, now, plan) {
        return;
    }
    if state.termination.as_ref().is_some_and(|termination| termination.object_gone) {
        plan.actions.push(Action::Finish);
        return;
    }
    match &state.removal {
        Removal::Pending => plan.actions.push(Action::DeleteObject),
        Removal::Failed(failure) => {
            if plan.due(failure, now) {
                plan.actions.push(Action::DeleteObject);
            }
        }
        // The informer reports the deletion.
        Removal::Requested => {}
    }
}

/// Whether the sandbox is gone already.
fn remove_sandbox(state: &PodState, now: Timestamp, plan: &mut Plan) -> bool {
    match &state.sandbox {
        SandboxState::Absent | SandboxState::Failed(_) => return true,
        SandboxState::Ready { .. } | SandboxState::Lost { .. } => plan.actions.push(Action::RemoveSandbox),
        SandboxState::Stuck { failure, .. } => {
            if plan.due(failure, now) {
                plan.actions.push(Action::RemoveSandbox);
            }
        }
    }
    false
}

/// Whether no driver holds anything for the pod any more.
fn release_volumes(state: &PodState, now: Timestamp, plan: &mut Plan) -> bool {
    match &state.held {
        Held::Nothing => return true,
        Held::Some => plan.actions.push(Action::ReleaseVolumes),
        Held::Releasing { .. } => {}
        Held::Stuck(failure) => {
            if plan.due(failure, now) {
                plan.actions.push(Action::ReleaseVolumes);
            }
        }
    }
    false
}

/// When the time is over that the spec gives the pod on its node.
pub fn active_until(spec: &PodSpec, state: &PodState) -> Option<Timestamp> {
    let seconds = u64::try_from(spec.active_deadline_seconds?).ok()?;
    Some(later(state.started_at?, Duration::from_secs(seconds)))
}

/// The grace period that the spec gives its containers.
pub fn grace(spec: &PodSpec) -> Duration {
    Duration::from_secs(u64::try_from(spec.termination_grace_period_seconds.unwrap_or(30)).unwrap_or(0))
}

/// Identity of what a running container was started from: a change of these fields restarts it, as upstream.
pub fn spec_hash(container: &Container) -> String {
    let restarts_for = resize::restarts_for(container);
    let mut parts = vec![container.name.as_str(), container.image.as_deref().unwrap_or_default()];
    parts.extend(restarts_for.iter().map(|part| &**part));
    crate::container::identifier(&parts)
}
