//! From what was observed to what the node says of itself, and what is to be freed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::options::EvictionPolicy;
use super::signal::{Observations, Pressure, Resource, Threshold};

/// What a node is short of, as it says.
pub type Pressures = BTreeSet<Pressure>;

/// What is remembered from one look to the next; thresholds by their place in the policy.
#[derive(Debug, Default)]
pub struct History {
    /// Since when a threshold has been met.
    since: BTreeMap<usize, Instant>,
    /// Those for which something is to be freed, until enough is.
    acting: BTreeSet<usize>,
    /// When something was last short.
    short: BTreeMap<Pressure, Instant>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    pub pressures: Pressures,
    /// What to free something for, the most urgent first.
    pub acting: Vec<Threshold>,
}

impl History {
    pub fn step(&mut self, policy: &EvictionPolicy, observed: &Observations, now: Instant) -> Step {
        let all = policy.thresholds.iter().enumerate();
        // One that has been acted on holds until what is to be freed beyond it has been.
        let met: Vec<(usize, &Threshold)> = all
            .filter(|(at, threshold)| {
                let enough = self.acting.contains(at);
                observed.get(&threshold.signal).is_some_and(|observed| threshold.is_met(*observed, enough))
            })
            .collect();
        self.since = met.iter().map(|(at, _)| (*at, self.since.get(at).copied().unwrap_or(now))).collect();
        self.short.extend(met.iter().map(|(_, threshold)| (threshold.signal.pressure(), now)));
        let holds = |(pressure, last): (&Pressure, &Instant)| {
            let now_short = met.iter().any(|(_, threshold)| threshold.signal.pressure() == *pressure);
            (now_short || now.duration_since(*last) < policy.transition).then_some(*pressure)
        };
        let pressures = self.short.iter().filter_map(holds).collect();
        let ripe = |at: &usize, threshold: &Threshold| {
            now.duration_since(self.since[at]) >= threshold.grace.unwrap_or(Duration::ZERO)
        };
        let acting: Vec<(usize, Threshold)> =
            met.into_iter().filter(|(at, threshold)| ripe(at, threshold)).map(|(at, one)| (at, *one)).collect();
        self.acting = acting.iter().map(|(at, _)| *at).collect();
        let mut acting: Vec<Threshold> = acting.into_iter().map(|(_, threshold)| threshold).collect();
        // Memory comes first: a kernel without any kills whom it likes.
        acting.sort_by_key(|threshold| threshold.signal.resource() != Resource::Memory);
        Step { pressures, acting }
    }
}

/// Whether nothing is short any more, what was to be freed beyond the thresholds included.
pub fn is_enough(policy: &EvictionPolicy, observed: &Observations) -> bool {
    let short = |threshold: &Threshold| observed.get(&threshold.signal).is_some_and(|one| threshold.is_met(*one, true));
    !policy.thresholds.iter().any(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::signal::{Observation, Signal};

    fn policy(hard: &str, soft: &str, graces: &str, reclaims: &str) -> EvictionPolicy {
        let soft = (&soft.parse().unwrap(), &graces.parse().unwrap());
        let thresholds = EvictionPolicy::thresholds(&hard.parse().unwrap(), soft, &reclaims.parse().unwrap()).unwrap();
        EvictionPolicy { thresholds, max_grace: None, transition: Duration::from_secs(300) }
    }

    fn observed(signal: Signal, available: u64) -> Observations {
        Observations::from([(signal, Observation { available, capacity: 1000 })])
    }

    /// What is said and what is acted on, by names.
    fn told(step: &Step) -> (Vec<&'static str>, Vec<&'static str>) {
        let said = step.pressures.iter().map(|one| one.condition()).collect();
        (said, step.acting.iter().map(|one| one.signal.name()).collect())
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_is_told_for_a_while_after() {
        let (policy, mut history, start) = (policy("pid.available<10", "", "", ""), History::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut step =
            |available, seconds| history.step(&policy, &observed(Signal::PidAvailable, available), at(seconds));
        assert_eq!(step(10, 0), Step::default());
        assert_eq!(told(&step(9, 10)), (vec!["PIDPressure"], vec!["pid.available"]));
        assert_eq!(told(&step(10, 20)), (vec!["PIDPressure"], vec![]));
        assert_eq!(told(&step(10, 309)), (vec!["PIDPressure"], vec![]));
        assert_eq!(step(10, 310), Step::default());
    }

    #[test]
    fn a_soft_threshold_is_told_at_once_and_acts_after_its_grace() {
        let policy = policy("", "memory.available<10", "memory.available=30s", "");
        let (mut history, start) = (History::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut step =
            |available, seconds| history.step(&policy, &observed(Signal::MemoryAvailable, available), at(seconds));
        assert_eq!(told(&step(9, 0)), (vec!["MemoryPressure"], vec![]));
        assert_eq!(told(&step(9, 29)), (vec!["MemoryPressure"], vec![]));
        assert_eq!(told(&step(9, 30)), (vec!["MemoryPressure"], vec!["memory.available"]));
        assert_eq!(told(&step(10, 40)).1, Vec::<&str>::new());
        assert_eq!(told(&step(9, 50)).1, Vec::<&str>::new(), "it counts from anew");
    }

    #[test]
    fn what_is_acted_on_goes_on_until_enough_is_freed() {
        let policy = policy("nodefs.available<10%", "", "", "nodefs.available=5%");
        let (mut history, now) = (History::default(), Instant::now());
        let mut step = |available| history.step(&policy, &observed(Signal::NodeFsAvailable, available), now);
        assert_eq!(told(&step(149)).1, Vec::<&str>::new());
        for available in [99, 149] {
            assert_eq!(told(&step(available)).1, ["nodefs.available"]);
        }
        assert_eq!(told(&step(150)).1, Vec::<&str>::new());
        assert_eq!(told(&step(149)).1, Vec::<&str>::new());
        assert!(is_enough(&policy, &observed(Signal::NodeFsAvailable, 150)));
        assert!(!is_enough(&policy, &observed(Signal::NodeFsAvailable, 149)));
    }

    #[test]
    fn memory_comes_first_and_what_is_not_observed_is_not_short() {
        let policy = policy("nodefs.available<10%,memory.available<1Gi,pid.available<1", "", "", "");
        let mut both = observed(Signal::NodeFsAvailable, 1);
        both.extend(observed(Signal::MemoryAvailable, 1));
        let step = History::default().step(&policy, &both, Instant::now());
        assert_eq!(told(&step), (vec!["MemoryPressure", "DiskPressure"], vec!["memory.available", "nodefs.available"]));
        assert!(is_enough(&policy, &Observations::default()));
    }
}
