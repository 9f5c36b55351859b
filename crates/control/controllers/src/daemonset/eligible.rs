//! Which nodes a DaemonSet's pods belong on: pure.

use api::node_selector::NodeSelection;
use api::taint::{self, NO_EXECUTE, NO_SCHEDULE};
use k8s_openapi::api::core::v1::{PodSpec, Toleration};

use super::pod;
use crate::nodes::NodeFacts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A pod is to run there.
    Wanted,
    /// None is started, and one that runs may stay.
    Suffered,
    /// One that runs must go.
    Unwanted,
}

/// What decides of the template.
pub struct Eligibility {
    node: Option<String>,
    nodes: NodeSelection,
    tolerations: Vec<Toleration>,
}

impl Eligibility {
    pub fn of(template: &PodSpec) -> Self {
        let mut spec = template.clone();
        pod::tolerate(&mut spec);
        Self {
            node: spec.node_name.clone().filter(|name| !name.is_empty()),
            nodes: NodeSelection::of(&spec),
            tolerations: spec.tolerations.unwrap_or_default(),
        }
    }

    pub fn of_node(&self, node: &NodeFacts) -> Place {
        let named = self.node.as_ref().is_none_or(|name| *name == node.name);
        if !named || !self.nodes.matches(&node.name, &node.labels) {
            return Place::Unwanted;
        }
        let tolerated = |effects: &[&str]| {
            let mut repelling = node.taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
            repelling.all(|one| taint::toleration(&self.tolerations, one).is_some())
        };
        match (tolerated(&[NO_SCHEDULE]), tolerated(&[NO_EXECUTE])) {
            (true, true) => Place::Wanted,
            (false, true) => Place::Suffered,
            (_, false) => Place::Unwanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::nodes::testing::node;

    fn place(spec: Value, node: &NodeFacts) -> Place {
        let mut spec = spec;
        spec["containers"] = json!([]);
        Eligibility::of(&serde_json::from_value(spec).expect("a pod's spec")).of_node(node)
    }

    #[test]
    fn taints_of_a_sick_node_are_tolerated_and_others_are_not() {
        let mut one = node("one", "True");
        assert_eq!(place(json!({}), &one), Place::Wanted);
        one.taints = [taint::MEMORY_PRESSURE, taint::DISK_PRESSURE, taint::PID_PRESSURE, taint::UNSCHEDULABLE]
            .iter()
            .map(|key| taint::of(key, NO_SCHEDULE))
            .collect();
        one.taints.push(taint::of(taint::NOT_READY, NO_EXECUTE));
        assert_eq!(place(json!({}), &one), Place::Wanted);
        one.taints.push(taint::of(taint::NETWORK_UNAVAILABLE, NO_SCHEDULE));
        assert_eq!(place(json!({"hostNetwork": true}), &one), Place::Wanted);
        assert_eq!(place(json!({}), &one), Place::Suffered);
        one.taints = vec![taint::of("gpu", NO_EXECUTE)];
        assert_eq!(place(json!({}), &one), Place::Unwanted);
    }

    #[test]
    fn names_and_labels_choose() {
        let mut one = node("one", "True");
        one.labels.insert("disk".into(), "ssd".into());
        assert_eq!(place(json!({"nodeSelector": {"disk": "ssd"}}), &one), Place::Wanted);
        assert_eq!(place(json!({"nodeSelector": {"disk": "hdd"}}), &one), Place::Unwanted);
        assert_eq!(place(json!({"nodeName": "two"}), &one), Place::Unwanted);
    }
}
