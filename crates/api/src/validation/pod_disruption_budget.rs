//! PodDisruptionBudgets.

use base_meta::field::{BadValue, Error, Path};
use base_meta::names;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::stateful_set::not_more_than_all;
use super::workload::{not_negative, number_or_percent};
use super::{Errors, formats, json, labels};

pub fn pod_disruption_budget(budget: &PodDisruptionBudget) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = PodDisruptionBudgetSpec::default();
    let spec = budget.spec.as_ref().unwrap_or(&empty);
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let message = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&path, as_go(spec), message));
    }
    for (name, amount) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
        if let Some(amount) = amount {
            number_or_percent(amount, &path.child(name), &mut errors);
            not_more_than_all(amount, &path.child(name), &mut errors);
        }
    }
    if let Some(selector) = &spec.selector {
        labels::selector(selector, &path.child("selector"), &mut errors);
    }
    if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref()
        && !matches!(policy, "AlwaysAllow" | "IfHealthyBudget")
    {
        let supported = &["AlwaysAllow", "IfHealthyBudget"];
        errors.push(Error::not_supported(&path.child("unhealthyPodEvictionPolicy"), policy, supported));
    }
    errors
}

/// Upstream prints its internal type, whose members have Go's names.
fn as_go(spec: &PodDisruptionBudgetSpec) -> BadValue {
    BadValue::json(format!(
        "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
        json(&spec.min_available),
        json(&spec.selector),
        json(&spec.max_unavailable),
        json(&spec.unhealthy_pod_eviction_policy)
    ))
}

pub fn pod_disruption_budget_status_update(new: &PodDisruptionBudget) -> Errors {
    let mut errors = Errors::new();
    let Some(status) = &new.status else { return errors };
    let path = Path::new("status");
    conditions(status.conditions.as_deref().unwrap_or_default(), &path.child("conditions"), &mut errors);
    let counts = [
        ("disruptionsAllowed", status.disruptions_allowed),
        ("currentHealthy", status.current_healthy),
        ("desiredHealthy", status.desired_healthy),
        ("expectedPods", status.expected_pods),
    ];
    for (name, number) in counts {
        not_negative(number, &path.child(name), &mut errors);
    }
    errors
}

/// `metav1.Condition`: one of each type, with a reason.
fn conditions(list: &[Condition], path: &Path, errors: &mut Errors) {
    const STATUSES: &[&str] = &["False", "True", "Unknown"];
    for (index, condition) in list.iter().enumerate() {
        let path = path.index(index);
        let kind = path.child("type");
        if condition.type_.is_empty() {
            errors.push(Error::required(&kind, ""));
        } else {
            formats::invalid(&kind, &condition.type_, names::qualified_name(&condition.type_), errors);
        }
        if list[..index].iter().any(|earlier| earlier.type_ == condition.type_) {
            errors.push(Error::duplicate(&kind, &condition.type_));
        }
        if !STATUSES.contains(&condition.status.as_str()) {
            errors.push(Error::not_supported(&path.child("status"), &condition.status, STATUSES));
        }
        not_negative(condition.observed_generation, &path.child("observedGeneration"), errors);
        let reason = path.child("reason");
        let first = condition.reason.bytes().next();
        let last = condition.reason.bytes().last();
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':');
        if condition.reason.is_empty() {
            errors.push(Error::required(&reason, ""));
        } else if condition.reason.len() > 1024 {
            errors.push(Error::too_long(&reason, 1024));
        } else if !first.is_some_and(|byte| byte.is_ascii_alphabetic())
            || !last.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            || !condition.reason.bytes().all(inside)
        {
            errors.push(Error::invalid(
                &reason,
                &condition.reason,
                "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for \
                 validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            ));
        }
        if condition.message.len() > 32 * 1024 {
            errors.push(Error::too_long(&path.child("message"), 32 * 1024));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed};
    use super::*;

    fn problems(spec: Value) -> Vec<String> {
        printed(pod_disruption_budget(&object(json!({"metadata": {"name": "p"}, "spec": spec}))))
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            (
                json!({"minAvailable": 1, "maxUnavailable": "10%"}),
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":\"10%\",\
                 \"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (json!({"minAvailable": -1}), "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
            (
                json!({"maxUnavailable": "101%"}),
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \
                 \"IfHealthyBudget\"",
            ),
        ];
        assert_eq!(
            problems(json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}})),
            Vec::<String>::new()
        );
        for (spec, expected) in table {
            assert_eq!(problems(spec.clone()), [expected], "{spec}");
        }
    }

    #[test]
    fn conditions_have_reasons() {
        let condition = json!({"type": "T", "status": "Maybe", "reason": "1", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let new: PodDisruptionBudget = object(json!({"status": {"conditions": [condition], "currentHealthy": -1}}));
        let found = printed(pod_disruption_budget_status_update(&new));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("status.conditions[0].status: Unsupported value: \"Maybe\""));
        assert!(found[1].starts_with("status.conditions[0].reason: Invalid value: \"1\": a condition reason must"));
        assert_eq!(found[2], "status.currentHealthy: Invalid value: -1: must be greater than or equal to 0");
    }
}
