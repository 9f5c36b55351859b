//! How many requests are served at once, and for how long.

use std::sync::Arc;
use std::time::Duration;

use base_meta::Status;
use machinery_registry::UserInfo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::path::{ResourcePath, Target};

/// Defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `get` and `list` in flight.
    pub read_only: usize,
    /// Every other verb.
    pub mutating: usize,
    /// Of a request that is not long-running.
    pub request_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { read_only: 400, mutating: 200, request_timeout: Duration::from_secs(60) }
    }
}

/// Subresources that stay open as long as the client likes.
const LONG_RUNNING: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

pub(crate) fn long_running(target: &Target<'_>) -> bool {
    match target {
        Target::Resource(ResourcePath { verb, subresource, .. }) => *verb == "watch" || streams(subresource),
        Target::Other { .. } => false,
    }
}

pub(crate) fn streams(subresource: &str) -> bool {
    LONG_RUNNING.contains(&subresource)
}

pub(crate) struct InFlight {
    read_only: Arc<Semaphore>,
    mutating: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            read_only: Arc::new(Semaphore::new(limits.read_only)),
            mutating: Arc::new(Semaphore::new(limits.mutating)),
        }
    }

    /// Refuses at once rather than queueing; administrators always get through, to mend what is overloaded.
    pub(crate) fn enter(&self, user: &UserInfo, verb: &str) -> Result<Option<OwnedSemaphorePermit>, Status> {
        if user.groups.iter().any(|group| group == "system:masters") {
            return Ok(None);
        }
        let lane = if matches!(verb, "get" | "list" | "head") { &self.read_only } else { &self.mutating };
        let full = |_| Status::too_many_requests("Too many requests, please try again later.", 1);
        lane.clone().try_acquire_owned().map(Some).map_err(full)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_masters_pass() {
        let lanes = InFlight::new(&Limits { read_only: 1, mutating: 1, ..Limits::default() });
        let user = UserInfo::default();
        let held = lanes.enter(&user, "get").unwrap();
        let status = lanes.enter(&user, "list").unwrap_err();
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, Some(1)));
        assert!(lanes.enter(&user, "create").is_ok());
        let master = UserInfo { groups: vec!["system:masters".into()], ..UserInfo::default() };
        assert!(lanes.enter(&master, "get").unwrap().is_none());
        drop(held);
        assert!(lanes.enter(&user, "get").is_ok());
    }
}
