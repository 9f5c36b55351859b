//! What is written into the status of a node that is not heard of any more.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::nodes::NodeFacts;

/// Those that the node itself reports; NetworkUnavailable is others' to say.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The conditions that change, in upstream's words; none when all say so already.
pub fn unknown(node: &NodeFacts, now: Timestamp) -> Vec<NodeCondition> {
    let one = |kind: &&str| match node.condition(kind) {
        None => Some(NodeCondition {
            type_: (*kind).to_owned(),
            status: "Unknown".into(),
            reason: Some("NodeStatusNeverUpdated".into()),
            message: Some("Kubelet never posted node status.".into()),
            last_heartbeat_time: node.created.map(Time),
            last_transition_time: Some(Time(now)),
        }),
        Some(known) if known.status != "Unknown" => Some(NodeCondition {
            status: "Unknown".into(),
            reason: Some("NodeStatusUnknown".into()),
            message: Some("Kubelet stopped posting node status.".into()),
            last_transition_time: Some(Time(now)),
            ..known.clone()
        }),
        Some(_) => None,
    };
    REPORTED.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::{condition, node};

    fn told(conditions: &[NodeCondition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|one| (one.type_.as_str(), one.reason.as_deref().unwrap_or_default())).collect()
    }

    #[test]
    fn what_was_reported_became_unknown_and_what_was_not_never_was() {
        let mut silent = node("one", "True");
        silent.conditions.push(condition("MemoryPressure", "False"));
        silent.conditions.push(condition("NetworkUnavailable", "False"));
        let written = unknown(&silent, Timestamp::UNIX_EPOCH);
        let expected = [
            ("Ready", "NodeStatusUnknown"),
            ("MemoryPressure", "NodeStatusUnknown"),
            ("DiskPressure", "NodeStatusNeverUpdated"),
            ("PIDPressure", "NodeStatusNeverUpdated"),
        ];
        assert_eq!(told(&written), expected);
        assert!(written.iter().all(|one| one.status == "Unknown"));
        silent.conditions = written;
        assert_eq!(told(&unknown(&silent, Timestamp::UNIX_EPOCH)), []);
    }
}
