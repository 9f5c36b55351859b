//! Deployments and ReplicaSets.

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::selector::LabelSelector as Selector;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::formats::{self, NOT_NEGATIVE};
use super::{Errors, immutable, labels, pod_spec, said};

pub fn deployment(deployment: &Deployment) -> Errors {
    let mut errors = Errors::new();
    let empty = DeploymentSpec::default();
    deployment_spec(deployment.spec.as_ref().unwrap_or(&empty), &Path::new("spec"), &mut errors);
    errors
}

pub fn deployment_update(new: &Deployment, old: &Deployment) -> Errors {
    let mut errors = deployment(new);
    let selector = |deployment: &Deployment| deployment.spec.as_ref().map(|spec| spec.selector.clone());
    immutable(&selector(new), &selector(old), &Path::new("spec").child("selector"), &mut errors);
    errors
}

pub fn deployment_status_update(new: &Deployment, old: &Deployment) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let empty = DeploymentStatus::default();
    let status = new.status.as_ref().unwrap_or(&empty);
    let count = |slot: Option<i32>| slot.unwrap_or(0);
    let counts = [
        ("replicas", status.replicas),
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
        ("unavailableReplicas", status.unavailable_replicas),
        ("collisionCount", status.collision_count),
    ];
    if let Some(generation) = status.observed_generation.filter(|generation| *generation < 0) {
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, NOT_NEGATIVE));
    }
    for (name, number) in counts {
        not_negative(number, &path.child(name), &mut errors);
    }
    let bounds = [
        ("updatedReplicas", status.updated_replicas, status.replicas, "status.replicas"),
        ("readyReplicas", status.ready_replicas, status.replicas, "status.replicas"),
        ("availableReplicas", status.available_replicas, status.replicas, "status.replicas"),
        ("availableReplicas", status.available_replicas, status.ready_replicas, "readyReplicas"),
    ];
    for (name, number, bound, bound_name) in bounds {
        if count(number) > count(bound) {
            let message = format!("cannot be greater than {bound_name}");
            errors.push(Error::invalid(&path.child(name), count(number), message));
        }
    }
    let collisions = |deployment: &Deployment| deployment.status.as_ref().and_then(|status| status.collision_count);
    if let Some(before) = collisions(old) {
        match collisions(new) {
            Some(after) if after < before => {
                errors.push(Error::invalid(&path.child("collisionCount"), after, "cannot be decremented"));
            }
            None => errors.push(Error::invalid(&path.child("collisionCount"), 0, "cannot be decremented")),
            Some(_) => {}
        }
    }
    errors
}

pub fn replica_set(replica_set: &ReplicaSet) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = ReplicaSetSpec::default();
    let spec = replica_set.spec.as_ref().unwrap_or(&empty);
    not_negative(spec.replicas, &path.child("replicas"), &mut errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), &mut errors);
    let usable = selector(&spec.selector, &path, &mut errors);
    match &spec.template {
        Some(template) => self::template(template, usable, &path.child("template"), "ReplicaSet", &mut errors),
        None => errors.push(Error::required(&path.child("template"), "")),
    }
    errors
}

pub fn replica_set_update(new: &ReplicaSet, old: &ReplicaSet) -> Errors {
    let mut errors = replica_set(new);
    let selector = |set: &ReplicaSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    immutable(&selector(new), &selector(old), &Path::new("spec").child("selector"), &mut errors);
    errors
}

pub fn replica_set_status_update(new: &ReplicaSet, _old: &ReplicaSet) -> Errors {
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
    for (name, number) in counts.into_iter().skip(1) {
        let number = number.unwrap_or(0);
        if number > status.replicas {
            errors.push(Error::invalid(&path.child(name), number, "cannot be greater than status.replicas"));
        }
    }
    if status.available_replicas.unwrap_or(0) > status.ready_replicas.unwrap_or(0) {
        errors.push(Error::invalid(
            &path.child("availableReplicas"),
            status.available_replicas.unwrap_or(0),
            "cannot be greater than readyReplicas",
        ));
    }
    errors
}

fn deployment_spec(spec: &DeploymentSpec, path: &Path, errors: &mut Errors) {
    not_negative(spec.replicas, &path.child("replicas"), errors);
    let usable = selector(&spec.selector, path, errors);
    template(&spec.template, usable, &path.child("template"), "Deployment", errors);
    strategy(spec, &path.child("strategy"), errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    not_negative(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
    if let Some(deadline) = spec.progress_deadline_seconds {
        not_negative(Some(deadline), &path.child("progressDeadlineSeconds"), errors);
        if deadline <= spec.min_ready_seconds.unwrap_or(0) {
            errors.push(Error::invalid(
                &path.child("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
}

/// Answers with the parsed selector where it can be held against the template.
fn selector(selector: &LabelSelector, path: &Path, errors: &mut Errors) -> Option<Selector> {
    let path = path.child("selector");
    let before = errors.len();
    labels::selector(selector, &path, errors);
    if labels::is_empty(selector) {
        // k8s-openapi cannot tell an absent selector from an empty one: both are answered as the absent one.
        errors.push(Error::required(&path, ""));
        return Some(Selector::nothing());
    }
    if errors.len() > before {
        return None;
    }
    Selector::from_typed(Some(selector)).ok()
}

pub(super) fn template(
    template: &PodTemplateSpec,
    selector: Option<Selector>,
    path: &Path,
    kind: &str,
    errors: &mut Errors,
) {
    let found = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    if let Some(selector) = selector
        && !selector.matches_labels(found)
    {
        let shown = super::json(&found.cloned().unwrap_or_default());
        let path = path.child("metadata").child("labels");
        errors.push(Error::invalid(&path, &shown, "`selector` does not match template `labels`"));
    }
    pod_spec::pod_template(template, path, errors);
    let path = path.child("spec");
    let Some(spec) = &template.spec else { return };
    if !matches!(said(&spec.restart_policy), "Always" | "") {
        errors.push(Error::not_supported(&path.child("restartPolicy"), said(&spec.restart_policy), &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let message = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("activeDeadlineSeconds"), message));
    }
}

fn strategy(spec: &DeploymentSpec, path: &Path, errors: &mut Errors) {
    let Some(strategy) = &spec.strategy else { return };
    match said(&strategy.type_) {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                errors.push(Error::forbidden(
                    &path.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let Some(rolling) = &strategy.rolling_update else {
                errors.push(Error::required(&path, "this should be defaulted and never be nil"));
                return;
            };
            let nothing = IntOrString::Int(0);
            let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&nothing);
            let surge = rolling.max_surge.as_ref().unwrap_or(&nothing);
            number_or_percent(unavailable, &path.child("maxUnavailable"), errors);
            number_or_percent(surge, &path.child("maxSurge"), errors);
            if is_zero(unavailable) && is_zero(surge) {
                errors.push(bad_amount(
                    unavailable,
                    &path.child("maxUnavailable"),
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            if let IntOrString::String(text) = unavailable
                && formats::percent(text).is_some_and(|percent| percent > 100)
            {
                errors.push(bad_amount(unavailable, &path.child("maxUnavailable"), "must not be greater than 100%"));
            }
        }
        other => errors.push(Error::not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"])),
    }
}

pub(super) fn number_or_percent(amount: &IntOrString, path: &Path, errors: &mut Errors) {
    match amount {
        IntOrString::Int(number) => not_negative(Some(*number), path, errors),
        IntOrString::String(text) => {
            for problem in names::percent(text) {
                errors.push(bad_amount(amount, path, &problem));
            }
        }
    }
}

pub(super) fn is_zero(amount: &IntOrString) -> bool {
    match amount {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(text) => formats::percent(text) == Some(0),
    }
}

pub(super) fn bad_amount(amount: &IntOrString, path: &Path, problem: &str) -> Error {
    match amount {
        IntOrString::Int(number) => Error::invalid(path, *number, problem),
        IntOrString::String(text) => Error::invalid(path, text, problem),
    }
}

pub(super) fn not_negative<N: Into<i64>>(number: Option<N>, path: &Path, errors: &mut Errors) {
    if let Some(number) = number.map(Into::into).filter(|number| *number < 0) {
        errors.push(Error::invalid(path, number, NOT_NEGATIVE));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn good() -> Value {
        json!({"metadata": {"name": "my-nginx"}, "spec": {
            "selector": {"matchLabels": {"run": "my-nginx"}}, "replicas": 2,
            "template": {"metadata": {"labels": {"run": "my-nginx"}}, "spec": {"containers": [
                {"name": "my-nginx", "image": "nginx", "ports": [{"containerPort": 80}]}]}}}})
    }

    fn made(changes: &[(&str, Value)]) -> Deployment {
        let mut made = object(with(&good(), changes));
        crate::defaults::deployment(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
            (
                "/spec/selector/matchLabels",
                json!({"run": "other"}),
                "spec.template.metadata.labels: Invalid value: {\"run\":\"my-nginx\"}: `selector` does not match template `labels`",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in Deployment is not Supported",
            ),
            ("/spec/template/spec/containers", json!([]), "spec.template.spec.containers: Required value"),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxSurge": "x"}}),
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be",
            ),
            (
                "/spec/strategy",
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                "/spec/strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ),
            (
                "/spec/strategy",
                json!({"type": "BlueGreen"}),
                "spec.strategy.type: Unsupported value: \"BlueGreen\": supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (
                "/spec/progressDeadlineSeconds",
                json!(0),
                "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
            ),
        ];
        assert_eq!(printed(deployment(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(deployment(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn the_selector_never_changes() {
        let moved = made(&[
            ("/spec/selector/matchLabels", json!({"app": "x"})),
            ("/spec/template/metadata/labels", json!({"app": "x"})),
        ]);
        assert_eq!(
            printed(deployment_update(&moved, &made(&[]))),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"]
        );
        assert!(deployment_update(&made(&[("/spec/replicas", json!(5))]), &made(&[])).is_empty());
    }

    #[test]
    fn replica_sets_follow_the_same_rules() {
        let mut set: ReplicaSet = object(with(&good(), &[("/spec/selector", json!({}))]));
        crate::defaults::replica_set(&mut set);
        let unmatched = "spec.template.metadata.labels: Invalid value: {\"run\":\"my-nginx\"}: `selector` does not match \
                         template `labels`";
        assert_eq!(printed(replica_set(&set)), ["spec.selector: Required value", unmatched]);
        set.spec.as_mut().expect("a spec").template = None;
        assert_eq!(printed(replica_set(&set)), ["spec.selector: Required value", "spec.template: Required value"]);
    }

    #[test]
    fn counts_in_a_status_agree() {
        let old = made(&[]);
        let mut new = made(&[]);
        new.status = object(json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}));
        assert_eq!(
            printed(deployment_status_update(&new, &old)),
            [
                "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            ]
        );
    }
}
