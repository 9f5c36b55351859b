//! ReplicationControllers and PodTemplates.

use base_meta::field::{Error, Path};
use base_meta::selector::LabelSelector as Selector;
use k8s_openapi::api::core::v1::{PodTemplate, ReplicationController, ReplicationControllerSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::workload::{not_negative, template};
use super::{Errors, pod_spec};

pub fn replication_controller(controller: &ReplicationController) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = ReplicationControllerSpec::default();
    let spec = controller.spec.as_ref().unwrap_or(&empty);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), &mut errors);
    let pairs = spec.selector.clone().unwrap_or_default();
    let selector = if pairs.is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
        None
    } else {
        let typed = LabelSelector { match_labels: Some(pairs), ..LabelSelector::default() };
        Selector::from_typed(Some(&typed)).ok()
    };
    not_negative(spec.replicas, &path.child("replicas"), &mut errors);
    match &spec.template {
        Some(found) => template(found, selector, &path.child("template"), "ReplicationController", &mut errors),
        None => errors.push(Error::required(&path.child("template"), "")),
    }
    errors
}

pub fn replication_controller_status_update(new: &ReplicationController) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let Some(status) = &new.status else { return errors };
    let counts = [
        ("replicas", Some(status.replicas)),
        ("fullyLabeledReplicas", status.fully_labeled_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    for (name, number) in counts {
        not_negative(number, &path.child(name), &mut errors);
    }
    not_negative(status.observed_generation, &path.child("observedGeneration"), &mut errors);
    for (name, number) in counts.into_iter().skip(1) {
        let number = number.unwrap_or(0);
        if number > status.replicas {
            errors.push(Error::invalid(&path.child(name), number, "cannot be greater than status.replicas"));
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let path = path.child("availableReplicas");
        errors.push(Error::invalid(&path, available, "cannot be greater than readyReplicas"));
    }
    errors
}

pub fn pod_template(object: &PodTemplate) -> Errors {
    let mut errors = Errors::new();
    let template = object.template.clone().unwrap_or_default();
    pod_spec::pod_template(&template, &Path::new("template"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> ReplicationController {
        let good = json!({"metadata": {"name": "r"}, "spec": {"selector": {"a": "b"}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let mut made = object(with(&good, changes));
        crate::defaults::replication_controller(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                "/spec/selector",
                json!({"a": "c"}),
                "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match",
            ),
            ("/spec/template", Value::Null, "spec.template: Required value"),
            ("/spec/template/spec/containers", json!([]), "spec.template.spec.containers: Required value"),
        ];
        assert_eq!(printed(replication_controller(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(replication_controller(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
        let bare = made(&[("/spec/selector", Value::Null), ("/spec/template/metadata", json!({}))]);
        assert_eq!(printed(replication_controller(&bare)), ["spec.selector: Required value"]);
    }

    #[test]
    fn a_stored_template_needs_a_container() {
        let mut bad: PodTemplate = object(json!({"template": {"spec": {"containers": []}}}));
        crate::defaults::stored_pod_template(&mut bad);
        assert_eq!(printed(pod_template(&bad)), ["template.spec.containers: Required value"]);
    }

    #[test]
    fn counts_in_a_status_agree() {
        let mut new = made(&[]);
        new.status = object(json!({"replicas": 1, "readyReplicas": 2}));
        assert_eq!(
            printed(replication_controller_status_update(&new)),
            ["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"]
        );
    }
}
