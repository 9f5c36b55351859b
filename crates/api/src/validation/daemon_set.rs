//! DaemonSets.

use base_meta::field::{BadValue, Error, Path};
use base_meta::selector::LabelSelector as Selector;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::stateful_set::{not_decremented, not_more_than_all};
use super::workload::{bad_amount, is_zero, not_negative, number_or_percent, template};
use super::{Errors, immutable, labels, said};

pub fn daemon_set(set: &DaemonSet) -> Errors {
    let mut errors = Errors::new();
    let empty = DaemonSetSpec::default();
    spec(set.spec.as_ref().unwrap_or(&empty), &Path::new("spec"), &mut errors);
    errors
}

pub fn daemon_set_update(new: &DaemonSet, old: &DaemonSet) -> Errors {
    let mut errors = daemon_set(new);
    let selector = |set: &DaemonSet| set.spec.as_ref().map(|spec| spec.selector.clone());
    immutable(&selector(new), &selector(old), &Path::new("spec").child("selector"), &mut errors);
    errors
}

fn spec(spec: &DaemonSetSpec, path: &Path, errors: &mut Errors) {
    let before = errors.len();
    labels::selector(&spec.selector, &path.child("selector"), errors);
    let valid = errors.len() == before;
    let empty = labels::is_empty(&spec.selector);
    if empty {
        let shown = super::json(&spec.selector);
        errors.push(Error::invalid(&path.child("selector"), &shown, "empty selector is invalid for daemonset"));
    }
    let selector = (valid && !empty).then(|| Selector::from_typed(Some(&spec.selector)).ok()).flatten();
    template(&spec.template, selector, &path.child("template"), "DaemonSet", errors);
    not_negative(spec.min_ready_seconds, &path.child("minReadySeconds"), errors);
    let strategy_path = path.child("updateStrategy");
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    match (said(&strategy.type_), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&strategy_path.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &strategy_path.child("rollingUpdate"), errors),
        (other, _) => {
            let shown = BadValue::json(format!("{{\"Type\":{other:?},\"RollingUpdate\":null}}"));
            errors.push(Error::not_supported(&strategy_path, shown, &["RollingUpdate", "OnDelete"]));
        }
    }
    not_negative(spec.revision_history_limit, &path.child("revisionHistoryLimit"), errors);
}

fn rolling_update(rolling: &RollingUpdateDaemonSet, path: &Path, errors: &mut Errors) {
    let nothing = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&nothing);
    let surge = rolling.max_surge.as_ref().unwrap_or(&nothing);
    let both = [(unavailable, path.child("maxUnavailable")), (surge, path.child("maxSurge"))];
    for (amount, path) in &both {
        number_or_percent(amount, path, errors);
    }
    for (amount, path) in &both {
        not_more_than_all(amount, path, errors);
    }
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => {
            errors.push(bad_amount(surge, &both[1].1, "may not be set when maxUnavailable is non-zero"));
        }
        (true, true) => errors.push(Error::required(&both[0].1, "cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

pub fn daemon_set_status_update(new: &DaemonSet, old: &DaemonSet) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status");
    let empty = DaemonSetStatus::default();
    let status = new.status.as_ref().unwrap_or(&empty);
    let counts = [
        ("currentNumberScheduled", Some(i64::from(status.current_number_scheduled))),
        ("numberMisscheduled", Some(i64::from(status.number_misscheduled))),
        ("desiredNumberScheduled", Some(i64::from(status.desired_number_scheduled))),
        ("numberReady", Some(i64::from(status.number_ready))),
        ("observedGeneration", status.observed_generation),
        ("updatedNumberScheduled", status.updated_number_scheduled.map(i64::from)),
        ("numberAvailable", status.number_available.map(i64::from)),
        ("numberUnavailable", status.number_unavailable.map(i64::from)),
        ("collisionCount", status.collision_count.map(i64::from)),
    ];
    for (name, number) in counts {
        not_negative(number, &path.child(name), &mut errors);
    }
    let before = old.status.as_ref().and_then(|status| status.collision_count);
    not_decremented(status.collision_count, before, &path.child("collisionCount"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> DaemonSet {
        let good = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
        let mut made = object(with(&good, changes));
        crate::defaults::daemon_set(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/selector", json!({}), "spec.selector: Invalid value: {}: empty selector is invalid for daemonset"),
            (
                "/spec/template/metadata/labels",
                json!({"a": "c"}),
                "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(1),
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "X"}),
                "spec.updateStrategy: Unsupported value: {\"Type\":\"X\",\"RollingUpdate\":null}: supported values: \
                 \"RollingUpdate\", \"OnDelete\"",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}),
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ),
            (
                "/spec/updateStrategy",
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
        ];
        assert_eq!(printed(daemon_set(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let found = printed(daemon_set(&made(&[(pointer, value.clone())])));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn the_selector_never_changes_and_counts_are_not_negative() {
        let moved = made(&[
            ("/spec/selector/matchLabels", json!({"a": "c"})),
            ("/spec/template/metadata/labels", json!({"a": "c"})),
        ]);
        assert_eq!(
            printed(daemon_set_update(&moved, &made(&[]))),
            ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"]
        );
        let mut new = made(&[]);
        new.status = Some(DaemonSetStatus { number_ready: -1, ..DaemonSetStatus::default() });
        assert_eq!(
            printed(daemon_set_status_update(&new, &made(&[]))),
            ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]
        );
    }
}
