//! Which nodes a pod may run on, by what it says itself: its node selector and its required node affinity.

use std::collections::BTreeMap;

use base_meta::selector::{LabelSelector, Operator, Requirement};
use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSelection {
    labels: BTreeMap<String, String>,
    /// Any of these; `None` where there is no affinity.
    terms: Option<Vec<Term>>,
}

/// The node that a DaemonSet has made the pod for, by the name in its required affinity.
pub fn only_node(affinity: &Affinity) -> Option<String> {
    let required = affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    match names.next()?.values.as_deref()? {
        [name] => Some(name.clone()),
        _ => None,
    }
}

/// Every requirement, over labels and over fields.
#[derive(Clone, Debug, Default, PartialEq)]
struct Term {
    labels: LabelSelector,
    fields: LabelSelector,
}

impl NodeSelection {
    pub fn of(spec: &PodSpec) -> Self {
        let required = spec
            .affinity
            .as_ref()
            .and_then(|affinity| affinity.node_affinity.as_ref())
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            labels: spec.node_selector.clone().unwrap_or_default(),
            ..required.map(Self::required).unwrap_or_default()
        }
    }

    /// Of a selector alone.
    pub fn required(selector: &NodeSelector) -> Self {
        let terms = selector.node_selector_terms.iter().map(Term::of).collect();
        Self { labels: BTreeMap::new(), terms: Some(terms) }
    }

    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
}

impl Term {
    fn of(term: &NodeSelectorTerm) -> Self {
        Self { labels: selector(term.match_expressions.as_deref()), fields: selector(term.match_fields.as_deref()) }
    }

    /// An empty term selects nothing.
    fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let empty = self.labels.requirements.is_empty() && self.fields.requirements.is_empty();
        !empty
            && self.labels.matches(|key| labels.get(key).map(String::as_str))
            && self.fields.matches(|key| (key == "metadata.name").then_some(name))
    }
}

fn selector(requirements: Option<&[NodeSelectorRequirement]>) -> LabelSelector {
    let requirements = requirements.unwrap_or_default().iter().filter_map(|requirement| {
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            _ => return None, // validation lets no other operator in
        };
        let values = requirement.values.clone().unwrap_or_default();
        Some(Requirement { key: requirement.key.clone(), operator, values })
    });
    LabelSelector { requirements: requirements.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(spec: serde_json::Value) -> NodeSelection {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        NodeSelection::of(&serde_json::from_value(spec).expect("a pod's spec"))
    }

    fn affinity(terms: serde_json::Value) -> NodeSelection {
        let required = serde_json::json!({"nodeSelectorTerms": terms});
        selection(serde_json::json!({
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
        }))
    }

    #[test]
    fn labels_expressions_and_names_select() {
        let labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        let on_one = |selection: NodeSelection| selection.matches("one", &labels);
        assert!(on_one(NodeSelection::default()));
        assert!(on_one(selection(serde_json::json!({"nodeSelector": {"disk": "ssd"}}))));
        assert!(!on_one(selection(serde_json::json!({"nodeSelector": {"disk": "hdd"}}))));
        let by = |kind: &str, key: &str, value: &str| serde_json::json!([{kind: [{"key": key, "operator": "In", "values": [value]}]}]);
        assert!(on_one(affinity(by("matchExpressions", "disk", "ssd"))));
        assert!(on_one(affinity(by("matchFields", "metadata.name", "one"))));
        assert!(!on_one(affinity(by("matchFields", "metadata.name", "two"))));
        assert!(!on_one(affinity(serde_json::json!([{}]))), "an empty term selects nothing");
    }
}
