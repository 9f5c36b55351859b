//! Which of the nodes that can hold a pod is best: the one with the most room left, ties by name.

use crate::facts::PodFacts;
use crate::filter::Candidate;

/// The mean free share of CPU and memory once the pod is there, in thousandths (upstream's LeastAllocated).
pub fn score(pod: &PodFacts, candidate: &Candidate) -> i128 {
    ["cpu", "memory"]
        .into_iter()
        .map(|name| {
            let total = candidate.node.allocatable.get(name).copied().unwrap_or(0);
            let used = candidate.used.get(name).copied().unwrap_or(0) + pod.requests.get(name).copied().unwrap_or(0);
            if total > 0 { (total - used).max(0) * 1000 / total } else { 0 }
        })
        .sum::<i128>()
        / 2
}

/// The best of `fitting`. With equal scores the node with fewer pods, so that pods without requests spread too.
pub fn best<'a>(pod: &PodFacts, fitting: &[&'a Candidate]) -> Option<&'a Candidate> {
    fitting.iter().copied().max_by_key(|candidate| {
        let pods = candidate.used.get("pods").copied().unwrap_or(0);
        (score(pod, candidate), -pods, std::cmp::Reverse(candidate.node.name.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Amounts, NodeFacts};

    fn node(name: &str, used: i128, pods: i128) -> Candidate {
        Candidate {
            node: NodeFacts {
                name: name.into(),
                allocatable: Amounts::from([("cpu".into(), 2000), ("memory".into(), 1000)]),
                ..NodeFacts::default()
            },
            used: Amounts::from([("cpu".into(), used), ("pods".into(), pods)]),
            ..Candidate::default()
        }
    }

    #[test]
    fn the_emptiest_node_wins_then_the_one_with_fewest_pods() {
        let (a, b, c) = (node("a", 1000, 1), node("b", 0, 2), node("c", 0, 1));
        let pod = PodFacts::default();
        assert_eq!(best(&pod, &[&a, &b, &c]).map(|node| node.node.name.as_str()), Some("c"));
        assert_eq!(best(&pod, &[&a, &b]).map(|node| node.node.name.as_str()), Some("b"));
        assert!(best(&pod, &[]).is_none());
    }
}
