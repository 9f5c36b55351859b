//! Probes: when they run, how their results add up, and what they do.
//!
//! One task per probe of a running container; it reports only what crosses a threshold, and every failure for its
//! Event. The only timers are the periods that users set.

mod check;
pub mod opening;
mod threshold;

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;
use tokio::time::Instant;

use crate::handler::Target;
use crate::state::ProbeKind;

pub use threshold::Threshold;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeEvent {
    /// One attempt failed; for the Event `Unhealthy`.
    Failed(String),
    /// Enough results in a row: healthy or not.
    Settled(bool),
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

/// Probes until dropped, or until the result is final: a passed startup probe, a failed startup or liveness probe.
pub async fn run(kind: ProbeKind, probe: Probe, target: Target, running_for: Duration, report: impl Fn(ProbeEvent)) {
    let period = seconds(probe.period_seconds.filter(|period| *period > 0), 10);
    let timeout = seconds(probe.timeout_seconds.filter(|timeout| *timeout > 0), 1);
    let delay = seconds(probe.initial_delay_seconds, 0).saturating_sub(running_for);
    let mut threshold = Threshold::new(
        probe.success_threshold.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
        probe.failure_threshold.and_then(|count| u32::try_from(count).ok()).unwrap_or(3),
    );
    let mut timer = tokio::time::interval_at(Instant::now() + delay, period);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let outcome = check::check(&probe, &target, timeout).await;
        let healthy = outcome.is_ok();
        if let Err(message) = outcome {
            report(ProbeEvent::Failed(message));
        }
        if let Some(settled) = threshold.record(healthy) {
            report(ProbeEvent::Settled(settled));
            let last = match kind {
                ProbeKind::Startup => true,
                ProbeKind::Liveness => !settled,
                ProbeKind::Readiness => false,
            };
            if last {
                return;
            }
        }
    }
}
