//! Waiting for a condition that no stream of events tells about.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::PATIENCE;

/// Between two attempts: most conditions hold at the first or the second.
const PAUSE: Duration = Duration::from_millis(20);

/// Tries until `attempt` succeeds and returns what it found; panics with its last error when patience runs out.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(error) if Instant::now() >= deadline => panic!("{what}: not in {PATIENCE:?}: {error:#}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
