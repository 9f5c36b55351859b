//! When a node was last heard of, by this process's clock: clocks of nodes may differ, and a suspended machine's nodes
//! have not been silent.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Upstream's `--node-monitor-grace-period`: how long a node may be silent.
pub const MONITOR_GRACE: Duration = Duration::from_secs(50);
/// Upstream's `--node-startup-grace-period`: how long until it must have reported for the first time.
pub const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// Heartbeat and renewal are the node's own times: only that they change counts.
#[derive(Clone, Debug)]
pub struct Health {
    heartbeat: Option<Timestamp>,
    renewed: Option<Timestamp>,
    heard: Instant,
    /// When the node is looked at next, if it does not change before.
    armed: Option<Instant>,
}

impl Health {
    /// Of a node that is seen for the first time; `age` is since its object was created.
    pub fn new(heartbeat: Option<Timestamp>, age: Duration, now: Instant) -> Self {
        let silent = if heartbeat.is_some() { Duration::ZERO } else { age };
        Self { heartbeat, renewed: None, heard: now.checked_sub(silent).unwrap_or(now), armed: None }
    }

    /// The status was reported, perhaps again.
    pub fn reported(&mut self, heartbeat: Option<Timestamp>, now: Instant) {
        if self.heartbeat != heartbeat {
            self.heartbeat = heartbeat;
            self.heard = now;
        }
    }

    /// The lease was renewed, perhaps again.
    pub fn renewed(&mut self, renewed: Option<Timestamp>, now: Instant) {
        if renewed > self.renewed {
            self.renewed = renewed;
            self.heard = now;
        }
    }

    /// The silence so far does not count.
    pub fn pardon(&mut self, now: Instant) {
        self.heard = now;
    }

    pub fn silent_at(&self) -> Instant {
        self.heard + if self.heartbeat.is_some() { MONITOR_GRACE } else { STARTUP_GRACE }
    }

    pub fn is_silent(&self, now: Instant) -> bool {
        now >= self.silent_at()
    }

    /// How long to wait for the silence to be too long; `None` when it is, or when that is awaited already.
    pub fn arm(&mut self, now: Instant) -> Option<Duration> {
        if self.is_silent(now) || self.armed.is_some_and(|armed| armed > now && armed <= self.silent_at()) {
            return None;
        }
        self.armed = Some(self.silent_at());
        Some(self.silent_at() - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("a time"))
    }

    #[test]
    fn any_sign_of_life_counts_and_an_old_one_does_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::new(second(1), Duration::from_secs(1000), start);
        assert!(!health.is_silent(at(49)) && health.is_silent(at(50)));
        health.renewed(second(9), at(30));
        health.renewed(second(9), at(60));
        assert!(health.is_silent(at(80)));
        health.reported(second(1), at(70));
        assert!(health.is_silent(at(80)));
        health.reported(second(2), at(70));
        assert!(!health.is_silent(at(119)) && health.is_silent(at(120)));
    }

    #[test]
    fn the_first_report_may_take_a_minute_from_the_nodes_creation() {
        let now = Instant::now() + Duration::from_secs(100);
        let mut health = Health::new(None, Duration::from_secs(40), now);
        assert_eq!(health.arm(now), Some(Duration::from_secs(20)));
        health.reported(second(1), now);
        assert!(!health.is_silent(now + Duration::from_secs(49)));
    }

    #[test]
    fn one_timer_waits_at_a_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut health = Health::new(second(1), Duration::ZERO, start);
        assert_eq!(health.arm(start), Some(MONITOR_GRACE));
        health.renewed(second(2), at(10));
        assert_eq!(health.arm(at(10)), None, "the timer that runs looks again");
        assert_eq!(health.arm(at(50)), Some(Duration::from_secs(10)));
        assert_eq!(health.arm(at(60)), None, "too long is not awaited");
    }
}
