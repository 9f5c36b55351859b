//! Readiness of containers without a readiness probe: once their programs listen where they say that they will.
//!
//! Between the start of a program and its first `listen` a Service would send it connections that are refused. Upstream
//! has the same gap, and hides most of it by looking at containers once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::seams::{Runtime, chain};

/// After so long a container is taken for ready all the same: it may never listen.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Returns when each of the TCP ports has a listener in the sandbox, or two seconds after the container's start.
pub async fn run(runtime: Arc<dyn Runtime>, sandbox: String, ports: Vec<u16>, running_for: Duration) {
    let end = Instant::now() + PATIENCE.saturating_sub(running_for);
    let mut pause = FIRST_PAUSE;
    while Instant::now() < end {
        match runtime.listens(&sandbox, &ports).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return tracing::debug!(sandbox, error = %chain(&error), "not known who listens"),
        }
        tokio::time::sleep_until(end.min(Instant::now() + pause)).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
