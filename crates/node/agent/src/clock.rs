//! The time of day, injectable: tests run it on tokio's paused clock.

use std::sync::Arc;

use jiff::Timestamp;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    pub fn wall() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// `start` plus what has passed on tokio's clock, so that a paused runtime moves both together.
    #[cfg(test)]
    pub fn tokio(start: Timestamp) -> Self {
        let origin = tokio::time::Instant::now();
        Self(Arc::new(move || {
            let elapsed = jiff::SignedDuration::try_from(origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
            start.saturating_add(elapsed).unwrap_or(start)
        }))
    }

    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
