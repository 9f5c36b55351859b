//! How fast nodes that are not ready lose their pods. When many fail at once, it is more likely the network between them
//! and the control plane that has failed: then it is slower, and when none is ready, it stops.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::taints;
use crate::nodes::{NodeFacts, Readiness};

/// One node every so often in each zone: upstream's `--node-eviction-rate` of 0.1 a second.
const PACE: Duration = Duration::from_secs(10);
/// `--secondary-node-eviction-rate`, in a large zone of which most is not ready.
const SLOW_PACE: Duration = Duration::from_secs(100);
/// `--large-cluster-size-threshold`: a smaller zone loses no pods while most of it is not ready.
const LARGE: usize = 50;
/// `--unhealthy-zone-threshold`, as a fraction, and more nodes than this few.
const UNHEALTHY: f64 = 0.55;
const FEW: usize = 2;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Normal,
    Partial,
    Full,
}

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct Disruption {
    /// No node is ready.
    total: bool,
    /// When a node of the zone last lost its pods.
    last: BTreeMap<String, Instant>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes to put the taint on by which pods leave, with their zones.
    pub taint: Vec<(String, String)>,
    /// Nodes to take it off.
    pub untaint: Vec<String>,
    /// No node was ready, and one is again: the silence meanwhile was the network's.
    pub pardon: bool,
    /// When the next node's turn comes.
    pub again: Option<Duration>,
}

impl Disruption {
    pub fn plan(&mut self, nodes: &[&NodeFacts], now: Instant) -> Plan {
        let mut zones: BTreeMap<String, Vec<&NodeFacts>> = BTreeMap::new();
        for node in nodes {
            zones.entry(zone(node)).or_default().push(node);
        }
        let counted = |node: &&&NodeFacts| !node.labels.contains_key(EXCLUDED);
        let state = |nodes: &[&NodeFacts]| {
            let (ready, all) = nodes.iter().filter(counted).fold((0, 0), |(ready, all), node| {
                (ready + usize::from(node.readiness() == Readiness::Ready), all + 1)
            });
            state(ready, all)
        };
        let states: BTreeMap<&String, State> = zones.iter().map(|(zone, nodes)| (zone, state(nodes))).collect();
        let total = !nodes.is_empty() && states.values().all(|state| *state == State::Full);
        let mut plan = Plan { pardon: self.total && !total, ..Plan::default() };
        self.total = total;
        if total {
            plan.untaint =
                nodes.iter().filter(|node| taints::is_evicting(node)).map(|node| node.name.clone()).collect();
            return plan;
        }
        for (zone, nodes) in &zones {
            let mut waiting: Vec<&NodeFacts> = nodes
                .iter()
                .filter(|node| taints::evicting(node).is_some() && !taints::is_evicting(node))
                .copied()
                .collect();
            waiting.sort_by_key(|node| (since(node), node.name.clone()));
            let Some(pace) = pace(states[zone], nodes.len()) else { continue };
            let Some(first) = waiting.first() else { continue };
            let turn = self.last.get(zone).map_or(now, |last| *last + pace);
            if turn <= now {
                plan.taint.push((first.name.clone(), zone.clone()));
            }
            let next = if turn > now { Some(turn - now) } else { (waiting.len() > 1).then_some(pace) };
            plan.again = plan.again.into_iter().chain(next).min();
        }
        plan
    }

    /// The taint is on.
    pub fn tainted(&mut self, zone: &str, now: Instant) {
        self.last.insert(zone.to_owned(), now);
    }
}

fn state(ready: usize, all: usize) -> State {
    let not_ready = all - ready;
    if ready == 0 && not_ready > 0 {
        State::Full
    } else if not_ready > FEW && not_ready as f64 / all as f64 >= UNHEALTHY {
        State::Partial
    } else {
        State::Normal
    }
}

fn pace(state: State, size: usize) -> Option<Duration> {
    match state {
        State::Normal | State::Full => Some(PACE),
        State::Partial => (size > LARGE).then_some(SLOW_PACE),
    }
}

/// Region and zone.
fn zone(node: &NodeFacts) -> String {
    let region = node.labels.get("topology.kubernetes.io/region").map_or("", String::as_str);
    format!("{region}:{}", node.zone.as_deref().unwrap_or_default())
}

fn since(node: &NodeFacts) -> Option<jiff::Timestamp> {
    node.condition("Ready").and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use api::taint;

    use super::*;
    use crate::nodes::testing::node;

    /// Nodes of one zone, the first `ready` of them ready.
    fn nodes(ready: usize, all: usize) -> Vec<NodeFacts> {
        (0..all).map(|n| node(&format!("n{n:02}"), if n < ready { "True" } else { "Unknown" })).collect()
    }

    fn plan(disruption: &mut Disruption, nodes: &[NodeFacts], now: Instant) -> Plan {
        disruption.plan(&nodes.iter().collect::<Vec<_>>(), now)
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.taint.iter().map(|(node, _)| node.as_str()).collect()
    }

    #[test]
    fn one_node_after_the_other() {
        let (mut disruption, now) = (Disruption::default(), Instant::now());
        let mut nodes = nodes(3, 5);
        let first = plan(&mut disruption, &nodes, now);
        assert_eq!((names(&first), first.again), (vec!["n03"], Some(PACE)));
        disruption.tainted(":", now);
        nodes[3].taints.push(taint::of(taint::UNREACHABLE, taint::NO_EXECUTE));
        let early = plan(&mut disruption, &nodes, now + PACE / 2);
        assert_eq!((names(&early), early.again), (vec![], Some(PACE / 2)));
        let second = plan(&mut disruption, &nodes, now + PACE);
        assert_eq!((names(&second), second.again), (vec!["n04"], None));
    }

    #[test]
    fn a_zone_of_which_most_is_gone_waits_unless_it_is_large() {
        let now = Instant::now();
        assert_eq!(plan(&mut Disruption::default(), &nodes(2, 5), now), Plan::default());
        assert_eq!(names(&plan(&mut Disruption::default(), &nodes(1, 3), now)), ["n01"], "two are few");
        let large = nodes(20, 51);
        let mut disruption = Disruption::default();
        disruption.tainted(":", now);
        assert_eq!(plan(&mut disruption, &large, now).again, Some(SLOW_PACE));
    }

    #[test]
    fn nobody_leaves_while_no_node_is_ready() {
        let (mut disruption, now) = (Disruption::default(), Instant::now());
        let mut nodes = nodes(0, 2);
        nodes[0].taints.push(taint::of(taint::UNREACHABLE, taint::NO_EXECUTE));
        let stopped = plan(&mut disruption, &nodes, now);
        assert_eq!(stopped, Plan { untaint: vec!["n00".into()], ..Plan::default() });
        nodes[1] = node("n01", "True");
        assert!(plan(&mut disruption, &nodes, now).pardon);
        assert!(!plan(&mut disruption, &nodes, now).pardon);
    }

    #[test]
    fn a_zone_that_is_gone_whole_goes_on_when_another_is_there() {
        let mut nodes = nodes(1, 2);
        nodes[1].zone = Some("b".into());
        let gone = Plan { taint: vec![("n01".into(), ":b".into())], ..Plan::default() };
        assert_eq!(plan(&mut Disruption::default(), &nodes, Instant::now()), gone);
        nodes[0] = node("n00", "False");
        nodes[0].labels.insert(EXCLUDED.into(), String::new());
        let both = plan(&mut Disruption::default(), &nodes, Instant::now());
        assert_eq!(names(&both), ["n00", "n01"], "what is excluded says nothing of its zone");
    }
}
