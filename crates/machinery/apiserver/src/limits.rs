//! How many requests are served at once, and for how long.

use std::time::Duration;

use crate::path::{ResourcePath, Target};

/// Defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Limits {
    /// With `mutating`: how many requests are served at once. Who is served first, the flows decide.
    pub read_only: usize,
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
