//! Which earlier reading a rate is told by. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::sample::Sample;

/// A shorter while tells more of the scheduler's ticks than of the program.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
/// The rate over this long is steady enough to scale by; upstream's readings are as far apart.
const STEADY: SignedDuration = SignedDuration::from_secs(10);
/// An average over longer than this is history.
const LONGEST: SignedDuration = SignedDuration::from_secs(60);

/// CPU time in nanoseconds by sandbox and container; the node's is by [`NODE`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) at: Timestamp,
    pub(super) cpu: HashMap<String, u64>,
}

/// No sandbox has this id.
pub(super) const NODE: &str = "";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Basis {
    Since(Arc<Counters>),
    /// There will be one by then.
    In(SignedDuration),
    /// Nobody has asked of late.
    Nothing,
}

/// The readings of the last minute, oldest first, at least a second apart.
#[derive(Default)]
pub(super) struct Window(VecDeque<Arc<Counters>>);

impl Window {
    pub(super) fn basis(&mut self, now: Timestamp) -> Basis {
        let age = |counters: &Counters| now.duration_since(counters.at);
        // One from the future was read before the clock was set back.
        self.0.retain(|counters| (SignedDuration::ZERO..=LONGEST).contains(&age(counters)));
        let Some(oldest) = self.0.front() else { return Basis::Nothing };
        if age(oldest) < SHORTEST {
            return Basis::In(SHORTEST.saturating_sub(age(oldest)));
        }
        let steady = self.0.iter().rfind(|counters| age(counters) >= STEADY);
        Basis::Since(Arc::clone(steady.unwrap_or(oldest)))
    }

    pub(super) fn note(&mut self, sample: &Sample) {
        if self.0.back().is_some_and(|last| sample.at.duration_since(last.at) < SHORTEST) {
            return;
        }
        let mut cpu = HashMap::from([(NODE.to_owned(), sample.node.usage.cpu)]);
        for pod in &sample.pods {
            cpu.insert(pod.id.clone(), pod.usage.cpu);
            cpu.extend(pod.containers.iter().map(|container| (container.id.clone(), container.usage.cpu)));
        }
        self.0.push_back(Arc::new(Counters { at: sample.at, cpu }));
    }
}

impl Counters {
    /// Nanoseconds of CPU time per second up to `now`, of what has used `cpu` by then and began at `started`.
    pub(super) fn rate(&self, id: &str, (started, now): (Timestamp, Timestamp), cpu: u64) -> u64 {
        // What began since has counted from 0.
        let (before, since) = match self.cpu.get(id) {
            Some(before) => (*before, self.at),
            None => (0, started),
        };
        let passed = now.duration_since(since).max(SHORTEST).as_millis().unsigned_abs();
        let rate = u128::from(cpu.saturating_sub(before)) * 1000 / passed.max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample::NodeSample;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000 + seconds).unwrap()
    }

    fn sample(seconds: i64) -> Sample {
        Sample { at: at(seconds), node: NodeSample::default(), pods: Vec::new() }
    }

    fn since(basis: Basis) -> i64 {
        match basis {
            Basis::Since(counters) => counters.at.as_second() - 1_000,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_to_ask_waits_a_second() {
        let mut window = Window::default();
        assert_eq!(window.basis(at(0)), Basis::Nothing);
        window.note(&sample(0));
        assert_eq!(window.basis(at(0)), Basis::In(SignedDuration::from_secs(1)));
        assert_eq!(since(window.basis(at(1))), 0);
    }

    #[test]
    fn who_asks_again_is_told_of_ten_seconds_where_it_can_be() {
        let mut window = Window::default();
        for second in [0, 5, 15, 20] {
            window.note(&sample(second));
        }
        assert_eq!(since(window.basis(at(21))), 5);
        assert_eq!(since(window.basis(at(30))), 20);
        assert_eq!(since(window.basis(at(80))), 20);
        assert_eq!(window.basis(at(81)), Basis::Nothing);
    }

    #[test]
    fn readings_are_a_second_apart_and_of_no_future() {
        let mut window = Window::default();
        for second in [50, 50, 51] {
            window.note(&sample(second));
        }
        assert_eq!(window.0.len(), 2);
        assert_eq!(window.basis(at(0)), Basis::Nothing);
    }

    #[test]
    fn rates_count_from_the_basis_or_the_beginning() {
        let counters = Counters { at: at(0), cpu: HashMap::from([("old".to_owned(), 4_000_000_000)]) };
        let times = (at(8), at(10));
        assert_eq!(counters.rate("old", times, 9_000_000_000), 500_000_000);
        assert_eq!(counters.rate("new", times, 1_000_000_000), 500_000_000);
        // One that began this moment, and one whose counter was lost.
        assert_eq!(counters.rate("new", (at(10), at(10)), 1_000), 1_000);
        assert_eq!(counters.rate("old", times, 1), 0);
    }
}
