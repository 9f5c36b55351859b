//! Which nodes can hold a pod; for the others, the reason in upstream's words.

use api::taint;

use crate::facts::{Amounts, NodeFacts, PodFacts};

/// A node as the scheduler sees it now: with what already runs or is about to run there.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    pub node: NodeFacts,
    pub used: Amounts,
    pub host_ports: Vec<(String, String, i32)>,
}

/// Why a node cannot hold a pod; all of a node's reasons are reported.
pub fn reasons(pod: &PodFacts, candidate: &Candidate) -> Vec<String> {
    let node = &candidate.node;
    if node.unschedulable
        && taint::toleration(&pod.tolerations, &taint::of(taint::UNSCHEDULABLE, taint::NO_SCHEDULE)).is_none()
    {
        return vec!["node(s) were unschedulable".into()];
    }
    if let Some(taint) = node.taints.iter().find(|taint| {
        matches!(taint.effect.as_str(), taint::NO_SCHEDULE | taint::NO_EXECUTE)
            && taint::toleration(&pod.tolerations, taint).is_none()
    }) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!("node(s) had untolerated taint(s) {{{}: {value}}}", taint.key)];
    }
    if !pod.nodes.matches(&node.name, &node.labels) {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    if pod.host_ports.iter().any(|port| candidate.host_ports.iter().any(|taken| conflict(port, taken))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    let mut reasons = Vec::new();
    for (name, wanted) in &pod.requests {
        let room = node.allocatable.get(name).copied().unwrap_or(0) - candidate.used.get(name).copied().unwrap_or(0);
        if *wanted > room && *wanted > 0 {
            reasons.push(if name == "pods" { "Too many pods".into() } else { format!("Insufficient {name}") });
        }
    }
    reasons
}

fn conflict(one: &(String, String, i32), two: &(String, String, i32)) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    one.0 == two.0 && one.2 == two.2 && (one.1 == two.1 || any(&one.1) || any(&two.1))
}

/// The sentence of the pod's condition and event: how many nodes failed for which reason, most frequent names sorted.
pub fn summary(total: usize, reasons: &[Vec<String>]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for reason in reasons.iter().flatten() {
        *counts.entry(reason).or_default() += 1;
    }
    if total == 0 {
        return "no nodes available to schedule pods".into();
    }
    let parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("0/{total} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::node_selector::NodeSelection;
    use k8s_openapi::api::core::v1::{PodSpec, Taint, Toleration};

    use super::*;

    fn node() -> Candidate {
        let node = NodeFacts {
            name: "one".into(),
            labels: BTreeMap::from([("disk".into(), "ssd".into())]),
            allocatable: Amounts::from([("cpu".into(), 2000), ("pods".into(), 110_000)]),
            ..NodeFacts::default()
        };
        Candidate { node, ..Candidate::default() }
    }

    fn on(disk: &str) -> NodeSelection {
        let labels = BTreeMap::from([("disk".to_owned(), disk.to_owned())]);
        NodeSelection::of(&PodSpec { node_selector: Some(labels), ..PodSpec::default() })
    }

    fn pod() -> PodFacts {
        PodFacts { requests: Amounts::from([("cpu".into(), 500), ("pods".into(), 1000)]), ..PodFacts::default() }
    }

    #[test]
    fn a_pod_fits_until_the_room_is_taken() {
        let mut node = node();
        assert!(reasons(&pod(), &node).is_empty());
        node.used.insert("cpu".into(), 1600);
        node.used.insert("pods".into(), 110_000);
        assert_eq!(reasons(&pod(), &node), ["Insufficient cpu", "Too many pods"]);
    }

    #[test]
    fn selectors_and_taints_keep_pods_away() {
        let mut pod = pod();
        pod.nodes = on("hdd");
        assert_eq!(reasons(&pod, &node()), ["node(s) didn't match Pod's node affinity/selector"]);
        pod.nodes = on("ssd");
        let mut node = node();
        node.node.taints.push(Taint { key: "gpu".into(), effect: "NoSchedule".into(), ..Taint::default() });
        assert_eq!(reasons(&pod, &node), ["node(s) had untolerated taint(s) {gpu: }"]);
        pod.tolerations.push(Toleration { operator: Some("Exists".into()), ..Toleration::default() });
        assert!(reasons(&pod, &node).is_empty());
        node.node.unschedulable = true;
        pod.tolerations.clear();
        assert_eq!(reasons(&pod, &node), ["node(s) were unschedulable"]);
    }

    #[test]
    fn host_ports_meet_on_the_wildcard_address() {
        let mut pod = pod();
        pod.host_ports.push(("TCP".into(), "127.0.0.1".into(), 80));
        let mut node = node();
        node.host_ports.push(("UDP".into(), "0.0.0.0".into(), 80));
        assert!(reasons(&pod, &node).is_empty());
        node.host_ports.push(("TCP".into(), "0.0.0.0".into(), 80));
        assert_eq!(reasons(&pod, &node).len(), 1);
    }

    #[test]
    fn the_summary_counts_nodes_by_reason() {
        let reasons = [vec!["Insufficient cpu".to_owned()], vec!["Insufficient cpu".into(), "Too many pods".into()]];
        assert_eq!(summary(2, &reasons), "0/2 nodes are available: 2 Insufficient cpu, 1 Too many pods.");
        assert_eq!(summary(0, &[]), "no nodes available to schedule pods");
    }
}
