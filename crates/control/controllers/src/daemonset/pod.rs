//! A DaemonSet's pod for one node: pure.

use api::taint::{self, NO_EXECUTE, NO_SCHEDULE};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration};

use crate::world::owned_by;

/// On a DaemonSet's pods and on its revisions: which template it is.
pub const HASH: &str = "controller-revision-hash";
const GENERATION: &str = "pod-template-generation";
const DEPRECATED_GENERATION: &str = "deprecated.daemonset.template.generation";

/// What befalls a node does not drive its own pods off.
pub fn tolerate(spec: &mut PodSpec) {
    let always = [
        (taint::NOT_READY, NO_EXECUTE),
        (taint::UNREACHABLE, NO_EXECUTE),
        (taint::DISK_PRESSURE, NO_SCHEDULE),
        (taint::MEMORY_PRESSURE, NO_SCHEDULE),
        (taint::PID_PRESSURE, NO_SCHEDULE),
        (taint::UNSCHEDULABLE, NO_SCHEDULE),
    ];
    let host = spec.host_network.unwrap_or(false).then_some((taint::NETWORK_UNAVAILABLE, NO_SCHEDULE));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in always.into_iter().chain(host) {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            ..Toleration::default()
        };
        let same = |one: &Toleration| {
            (&one.key, &one.effect, &one.operator) == (&toleration.key, &toleration.effect, &toleration.operator)
                && one.value.is_none()
        };
        match tolerations.iter_mut().find(|one| same(one)) {
            Some(there) => *there = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// The scheduler binds it to the node that its affinity names.
pub fn pod(set: &DaemonSet, revision: &ControllerRevision, node: &str) -> Pod {
    let template = set.spec.clone().unwrap_or_default().template;
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.generate_name = Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default()));
    metadata.owner_references = Some(vec![owned_by(set)]);
    let labels = metadata.labels.get_or_insert_default();
    if let Some(hash) = hash(revision) {
        labels.insert(HASH.into(), hash.to_owned());
    }
    let generation = set.metadata.annotations.as_ref().and_then(|all| all.get(DEPRECATED_GENERATION));
    if let Some(generation) = generation.filter(|text| text.parse::<i64>().is_ok()) {
        labels.insert(GENERATION.into(), generation.clone());
    }
    let mut spec = template.spec.unwrap_or_default();
    tolerate(&mut spec);
    let only = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![only]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    Pod { metadata, spec: Some(spec), status: None }
}

pub fn hash(revision: &ControllerRevision) -> Option<&str> {
    revision.metadata.labels.as_ref()?.get(HASH).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_for_one_node_and_of_one_revision() {
        let set = serde_json::from_value(json!({
            "metadata": {"name": "agent", "uid": "u", "annotations": {DEPRECATED_GENERATION: "3"}},
            "spec": {
                "selector": {"matchLabels": {"app": "a"}},
                "template": {
                    "metadata": {"labels": {"app": "a"}},
                    "spec": {"containers": [], "tolerations": [{"operator": "Exists", "key": "gpu"}]},
                },
            },
        }))
        .expect("a DaemonSet");
        let revision =
            serde_json::from_value(json!({"metadata": {"labels": {HASH: "h"}}, "revision": 1})).expect("a revision");
        let pod = serde_json::to_value(pod(&set, &revision, "one")).expect("JSON");
        assert_eq!(pod["metadata"]["labels"], json!({"app": "a", HASH: "h", GENERATION: "3"}));
        assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "DaemonSet");
        let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let only = json!({"key": "metadata.name", "operator": "In", "values": ["one"]});
        assert_eq!(terms["nodeSelectorTerms"], json!([{"matchFields": [only]}]));
        assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(7));
    }
}
