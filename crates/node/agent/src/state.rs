//! What a pod worker knows besides the Pod object: the observed half of every plan.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerUser, ResourceRequirements};

use crate::resize::{Pending, Progress};
use crate::seams::{Exit, Image, Resources};

/// How long a failed step waits before it is tried again, doubling.
pub const RETRY_INITIAL: Duration = Duration::from_secs(1);
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// Upstream's crash-loop and image-pull back-off.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(10);
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long starts its back-off anew.
pub const BACKOFF_RESET: Duration = Duration::from_secs(600);

/// What a container has between its stop signal and SIGKILL, however little the grace period or the preStop hook left.
pub const LAST_CHANCE: Duration = Duration::from_secs(2);

/// Waiting reasons that the plan itself tells apart.
pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";

pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| time.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

/// A step that failed and when it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
    pub delay: Duration,
    pub retry_at: Timestamp,
}

impl Failure {
    /// The failure after `previous`, whose delay it doubles.
    pub fn after(
        previous: Option<&Self>,
        (initial, max): (Duration, Duration),
        reason: &'static str,
        message: String,
        now: Timestamp,
    ) -> Self {
        let delay = previous.map_or(initial, |previous| (previous.delay * 2).min(max));
        Self { reason, message, delay, retry_at: later(now, delay) }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// `name_namespace(uid)`, as messages name a pod.
    pub full_name: String,
    /// Whose ids containers have: `sampan`, `containerd`.
    pub runtime: String,
    /// When the agent first saw the pod.
    pub started_at: Option<Timestamp>,
    pub volumes: Volumes,
    pub held: Held,
    pub sandbox: SandboxState,
    /// Of the latest sandbox, also once it is gone.
    pub last_ips: Vec<IpAddr>,
    /// Init and app containers by name.
    pub containers: BTreeMap<String, Record>,
    pub termination: Option<Termination>,
    /// Why the pod has failed as a whole; its containers are stopped for it.
    pub failure: Option<PodFailure>,
    /// The pod reached Succeeded or Failed; it never leaves it.
    pub terminal: Option<Terminal>,
    pub removal: Removal,
    /// The node has not given yet what the spec asks by now.
    pub pending: Option<Pending>,
    /// What it has given is on its way to what runs.
    pub progress: Option<Progress>,
    /// The bounds of the pod's own cgroup, as last set.
    pub group: Option<Resources>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    #[default]
    Unmounted,
    /// `after`: what failed before.
    Mounting {
        after: Option<Box<Failure>>,
    },
    Mounted,
    Failed(Failure),
    /// The image of a volume is not to be had; its containers tell of it as of their own.
    NoImage {
        image: String,
        failure: Failure,
    },
}

/// Whether drivers hold, or may hold, volumes for the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Held {
    #[default]
    Nothing,
    Some,
    /// They are being told to let go; `after`: what failed before.
    Releasing {
        after: Option<Box<Failure>>,
    },
    /// Telling them failed.
    Stuck(Failure),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SandboxState {
    #[default]
    Absent,
    Failed(Failure),
    Ready {
        id: String,
        ips: Vec<IpAddr>,
    },
    /// Its shim died; it must be removed before another is made.
    Lost {
        id: String,
    },
    /// Removing it failed.
    Stuck {
        id: String,
        failure: Failure,
    },
}

impl SandboxState {
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Absent | Self::Failed(_) => None,
            Self::Ready { id, .. } | Self::Lost { id } | Self::Stuck { id, .. } => Some(id),
        }
    }

    pub fn ips(&self) -> &[IpAddr] {
        match self {
            Self::Ready { ips, .. } => ips,
            _ => &[],
        }
    }
}

/// Why and by when everything of the pod must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    pub grace: Duration,
    pub deadline: Timestamp,
    /// The API no longer has the object: nothing to report to, nothing to delete.
    pub object_gone: bool,
}

/// As the pod's status tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFailure {
    pub reason: String,
    pub message: String,
    /// What its containers have to end; `None`: what the spec gives them.
    pub grace: Option<Duration>,
    /// The node has ended it for its own sake.
    pub disrupted: bool,
}

impl PodFailure {
    /// Its containers have the time that the spec gives them.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into(), grace: None, disrupted: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    Succeeded,
    Failed,
}

/// Deleting the API object, the last step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    #[default]
    Pending,
    Failed(Failure),
    Requested,
}

/// One container of the pod through all its instances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Number of the latest instance; 0 is the first.
    pub attempt: u32,
    pub instance: Instance,
    /// Who the latest instance was started as, as the status tells it.
    pub user: Option<ContainerUser>,
    /// How the instance before ended.
    pub previous: Option<Ended>,
    pub image: ImageState,
    pub backoff: Option<CrashBackoff>,
    /// The latest attempt to create an instance failed.
    pub failure: Option<Failure>,
}

impl Record {
    /// What keeps the next instance from starting, if something failed.
    pub fn waiting_for(&self) -> Option<&Failure> {
        self.failure.as_ref().or(match &self.image {
            ImageState::Failed(failure) => Some(failure),
            ImageState::Pulling { after } => after.as_deref(),
            ImageState::Unknown | ImageState::Present(_) => None,
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Instance {
    #[default]
    None,
    Running(Running),
    Ended(Ended),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub id: String,
    pub image: ImageRef,
    pub spec_hash: String,
    /// What it may use.
    pub resources: ResourceRequirements,
    pub stop_signal: Option<String>,
    pub started_at: Timestamp,
    pub post_start: PostStart,
    pub health: Health,
    pub stop: Option<Stopping>,
}

/// The postStart hook of one instance; until it is done the instance does not count as running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostStart {
    Pending,
    /// Or there is none.
    #[default]
    Done,
    /// The container must be stopped, and started again as its policy says.
    Failed,
}

/// What the probes say, thresholds applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The startup probe has passed, or there is none.
    pub started: bool,
    pub ready: bool,
    /// A liveness or startup probe has failed for good: the container must be restarted.
    pub failed: Option<ProbeKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As upstream's Events begin.
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// A container on its way down; stages only go forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    pub deadline: Timestamp,
    pub stage: Stage,
}

impl Stopping {
    /// When the container is killed.
    pub fn kill_at(&self) -> Timestamp {
        match self.stage {
            Stage::Signalled { at } => self.deadline.max(later(at, LAST_CHANCE)),
            Stage::Draining | Stage::Drained | Stage::Killed => self.deadline,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Traffic is being steered away and the preStop hook runs.
    Draining,
    Drained,
    Signalled {
        at: Timestamp,
    },
    Killed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRef {
    /// As the spec names it.
    pub name: String,
    /// Digest of the image.
    pub id: String,
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub id: String,
    pub image: ImageRef,
    pub exit: Exit,
    /// It was stopped for a change of its spec: another follows, whatever the policy.
    pub anew: bool,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        self.exit.exit_code == 0 && self.exit.reason.is_none()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Must be looked up (and pulled, as the policy says) before the next start.
    #[default]
    Unknown,
    Pulling {
        after: Option<Box<Failure>>,
    },
    Present(Box<Image>),
    Failed(Failure),
}

/// Upstream's crash-loop back-off: the first restart is immediate, the next waits 10 s after the exit, then doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashBackoff {
    pub delay: Duration,
    pub updated: Timestamp,
}

impl CrashBackoff {
    fn expired(self, at: Timestamp) -> bool {
        at > later(self.updated, BACKOFF_RESET)
    }

    /// When a container that ended at `finished_at` may start again.
    pub fn restart_at(backoff: Option<Self>, finished_at: Timestamp) -> Timestamp {
        match backoff {
            Some(backoff) if !backoff.expired(finished_at) => later(finished_at, backoff.delay),
            _ => finished_at,
        }
    }

    /// The back-off once a restart has been made at `now`.
    pub fn next(backoff: Option<Self>, now: Timestamp) -> Self {
        let delay = match backoff {
            Some(backoff) if !backoff.expired(now) => (backoff.delay * 2).min(BACKOFF_MAX),
            _ => BACKOFF_INITIAL,
        };
        Self { delay, updated: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_then_waits_double_up_to_five_minutes() {
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(CrashBackoff::restart_at(None, start), start);
        let mut backoff = None;
        let mut delays = Vec::new();
        let mut now = start;
        for _ in 0..7 {
            backoff = Some(CrashBackoff::next(backoff, now));
            let ready = CrashBackoff::restart_at(backoff, now);
            delays.push(ready.duration_since(now).as_secs());
            now = ready;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_running_forget_the_back_off() {
        let backoff = Some(CrashBackoff { delay: Duration::from_secs(160), updated: Timestamp::UNIX_EPOCH });
        let end = later(Timestamp::UNIX_EPOCH, Duration::from_secs(601));
        assert_eq!(CrashBackoff::restart_at(backoff, end), end);
        assert_eq!(CrashBackoff::next(backoff, end).delay, BACKOFF_INITIAL);
    }
}
