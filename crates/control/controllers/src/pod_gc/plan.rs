//! Which pods nobody else will end: pure.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::nodes::{NodeFacts, Readiness};
use crate::world::{Phase, PodFacts};

/// Upstream's `--terminated-pod-gc-threshold`.
pub const TERMINATED: usize = 12_500;

/// What to do about one pod, its node being what the informers know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Leave,
    /// Nobody runs it: it goes at once.
    Remove,
    /// Its node is not known: it goes if that stays so.
    Quarantine,
}

pub fn judge(pod: &PodFacts, node: Option<&NodeFacts>) -> Verdict {
    let Some(_) = &pod.node else {
        return if pod.deleting { Verdict::Remove } else { Verdict::Leave };
    };
    let Some(node) = node else { return Verdict::Quarantine };
    let off =
        node.readiness() != Readiness::Ready && node.taints.iter().any(|taint| taint.key == api::taint::OUT_OF_SERVICE);
    if pod.deleting && off { Verdict::Remove } else { Verdict::Leave }
}

/// Ended pods above the threshold: evicted ones first, then the oldest.
pub fn surplus(pods: impl Iterator<Item = Arc<PodFacts>>, threshold: usize) -> Vec<Arc<PodFacts>> {
    let mut ended: Vec<_> = pods.filter(|pod| matches!(pod.phase, Phase::Succeeded | Phase::Failed)).collect();
    let count = ended.len().saturating_sub(threshold);
    if count > 0 {
        ended.sort_by_key(|pod| (Reverse(pod.evicted), pod.created, pod.key.name.clone()));
    }
    ended.truncate(count);
    ended
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use machinery_client::ObjectKey;

    use super::*;
    use crate::nodes::testing::node;

    fn pod(name: &str, node: Option<&str>, deleting: bool) -> PodFacts {
        PodFacts { key: ObjectKey::new("default", name), node: node.map(Into::into), deleting, ..PodFacts::default() }
    }

    #[test]
    fn a_pod_goes_when_its_node_cannot_end_it() {
        let (up, mut off) = (node("one", "True"), node("one", "Unknown"));
        assert_eq!(judge(&pod("a", None, true), None), Verdict::Remove);
        assert_eq!(judge(&pod("a", None, false), None), Verdict::Leave);
        assert_eq!(judge(&pod("a", Some("one"), false), None), Verdict::Quarantine);
        assert_eq!(judge(&pod("a", Some("one"), true), Some(&up)), Verdict::Leave);
        assert_eq!(judge(&pod("a", Some("one"), true), Some(&off)), Verdict::Leave, "it may come back");
        off.taints.push(api::taint::of(api::taint::OUT_OF_SERVICE, api::taint::NO_EXECUTE));
        assert_eq!(judge(&pod("a", Some("one"), true), Some(&off)), Verdict::Remove);
        assert_eq!(judge(&pod("a", Some("one"), false), Some(&off)), Verdict::Leave);
    }

    #[test]
    fn of_too_many_ended_pods_the_evicted_and_the_oldest_go() {
        let ended = |name: &str, second: i64, evicted: bool| {
            let created = Some(Timestamp::from_second(second).expect("a time"));
            Arc::new(PodFacts { created, evicted, phase: Phase::Failed, ..pod(name, Some("one"), false) })
        };
        let running = Arc::new(PodFacts { phase: Phase::Running, ..pod("running", Some("one"), false) });
        let pods = [ended("young", 9, false), ended("old", 1, false), ended("evicted", 5, true), running];
        let names = |threshold| -> Vec<String> {
            surplus(pods.iter().cloned(), threshold).iter().map(|pod| pod.key.name.clone()).collect()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert!(names(3).is_empty());
    }
}
