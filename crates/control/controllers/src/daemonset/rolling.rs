//! The next step of a rolling update: pure.

use super::plan::is_new;
use crate::world::PodFacts;

/// What runs on a node and is not being deleted.
pub enum OnNode<'a> {
    Nothing,
    New(&'a PodFacts),
    Old(&'a str, &'a PodFacts),
    Both {
        new: &'a PodFacts,
        old: &'a PodFacts,
    },
    /// More than one of a kind: those that are too many go first.
    Crowd,
}

#[derive(Debug, Default, PartialEq)]
pub struct Step {
    pub create: Vec<String>,
    pub delete: Vec<String>,
}

impl<'a> OnNode<'a> {
    pub fn of(node: &'a str, pods: &[&'a PodFacts], hash: &str) -> Self {
        let staying = pods.iter().copied().filter(|pod| !pod.deleting);
        let (new, old): (Vec<_>, Vec<_>) = staying.partition(|pod| is_new(pod, hash));
        match (&new[..], &old[..]) {
            ([], []) => Self::Nothing,
            ([new], []) => Self::New(new),
            ([], [old]) => Self::Old(node, old),
            ([new], [old]) => Self::Both { new, old },
            _ => Self::Crowd,
        }
    }
}

pub fn step(nodes: &[OnNode<'_>], unavailable: i32, surge: i32, available: &dyn Fn(&PodFacts) -> bool) -> Step {
    if surge > 0 { surging(nodes, surge, available) } else { replacing(nodes, unavailable, available) }
}

/// Old pods that serve nobody go at once; of the others as many as may be missing.
fn replacing(nodes: &[OnNode<'_>], unavailable: i32, available: &dyn Fn(&PodFacts) -> bool) -> Step {
    let (mut missing, mut idle, mut serving) = (0, Vec::new(), Vec::new());
    for node in nodes {
        match node {
            OnNode::Nothing | OnNode::Both { .. } | OnNode::Crowd => missing += 1,
            OnNode::New(pod) => missing += i32::from(!available(pod)),
            OnNode::Old(_, pod) if available(pod) => serving.push(pod.key.name.clone()),
            OnNode::Old(_, pod) => {
                missing += 1;
                idle.push(pod.key.name.clone());
            }
        }
    }
    let more = usize::try_from(unavailable - missing).unwrap_or(0);
    idle.extend(serving.into_iter().take(more));
    Step { create: Vec::new(), delete: idle }
}

/// The new pod is started beside the old one, which goes once the new one is available.
fn surging(nodes: &[OnNode<'_>], surge: i32, available: &dyn Fn(&PodFacts) -> bool) -> Step {
    let (mut step, mut under_way, mut candidates) = (Step::default(), 0, Vec::new());
    for node in nodes {
        match node {
            OnNode::Nothing | OnNode::New(_) => {}
            OnNode::Crowd => under_way += 1,
            OnNode::Old(node, pod) if available(pod) => candidates.push((*node).to_owned()),
            OnNode::Old(node, _) => step.create.push((*node).to_owned()),
            OnNode::Both { new, old } if available(new) => step.delete.push(old.key.name.clone()),
            OnNode::Both { .. } => under_way += 1,
        }
    }
    let more = usize::try_from(surge - under_way).unwrap_or(0);
    step.create.extend(candidates.into_iter().take(more));
    step
}
