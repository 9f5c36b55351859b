//! HorizontalPodAutoscalers, in the one form they are stored in (v2).

use base_meta::field::{Error, Path};
use base_meta::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, MetricIdentifier,
    MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::workload::not_negative;
use super::{Errors, labels, said};

const MAX_PERIOD_SECONDS: i32 = 1800;
const MAX_STABILIZATION_SECONDS: i32 = 3600;
const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

pub fn horizontal_pod_autoscaler(autoscaler: &HorizontalPodAutoscaler) -> Errors {
    let mut errors = Errors::new();
    let (spec, path) = (&autoscaler.spec, Path::new("spec"));
    if let Some(least) = spec.min_replicas.filter(|least| *least < 1) {
        errors.push(Error::invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1"));
    }
    let most = path.child("maxReplicas");
    if spec.max_replicas < 1 {
        errors.push(Error::invalid(&most, spec.max_replicas, "must be greater than 0"));
    }
    if spec.min_replicas.is_some_and(|least| spec.max_replicas < least) {
        let message = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&most, spec.max_replicas, message));
    }
    reference(&spec.scale_target_ref, &path.child("scaleTargetRef"), &mut errors);
    for (index, metric) in spec.metrics.iter().flatten().enumerate() {
        metric_spec(metric, &path.child("metrics").index(index), &mut errors);
    }
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (name, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                scaling_rules(rules, &path.child(name), &mut errors);
            }
        }
    }
    errors
}

pub fn horizontal_pod_autoscaler_status_update(new: &HorizontalPodAutoscaler) -> Errors {
    let mut errors = Errors::new();
    let Some(status) = &new.status else { return errors };
    let path = Path::new("status");
    not_negative(status.current_replicas, &path.child("currentReplicas"), &mut errors);
    not_negative(Some(status.desired_replicas), &path.child("desiredReplicas"), &mut errors);
    errors
}

/// A name that is one segment of a path.
fn segment(name: &str, path: &Path, errors: &mut Errors) {
    let problem = match name {
        "" => {
            errors.push(Error::required(path, ""));
            return;
        }
        "." => "may not be '.'",
        ".." => "may not be '..'",
        _ => {
            for character in ["/", "%"].into_iter().filter(|character| name.contains(character)) {
                errors.push(Error::invalid(path, name, format!("may not contain '{character}'")));
            }
            return;
        }
    };
    errors.push(Error::invalid(path, name, problem));
}

fn reference(reference: &CrossVersionObjectReference, path: &Path, errors: &mut Errors) {
    segment(&reference.kind, &path.child("kind"), errors);
    segment(&reference.name, &path.child("name"), errors);
    let version = said(&reference.api_version);
    if version.matches('/').count() > 1 {
        let message = format!("unexpected GroupVersion string: {version}");
        errors.push(Error::invalid(&path.child("apiVersion"), version, message));
    }
}

fn scaling_rules(rules: &HPAScalingRules, path: &Path, errors: &mut Errors) {
    let window = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(seconds) if seconds < 0 => {
            errors.push(Error::invalid(&window, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > MAX_STABILIZATION_SECONDS => {
            let message = format!("must be less than or equal to {MAX_STABILIZATION_SECONDS}");
            errors.push(Error::invalid(&window, seconds, message));
        }
        _ => {}
    }
    if let Some(policy) = rules.select_policy.as_deref()
        && !matches!(policy, "Disabled" | "Max" | "Min")
    {
        errors.push(Error::not_supported(&path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]));
    }
    let policies = path.child("policies");
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        errors.push(Error::required(&policies, "must specify at least one Policy"));
    }
    for (index, policy) in rules.policies.iter().flatten().enumerate() {
        scaling_policy(policy, &policies.index(index), errors);
    }
    if let Some(tolerance) = &rules.tolerance
        && tolerance.0.parse::<Quantity>().is_ok_and(Quantity::is_negative)
    {
        errors.push(Error::invalid(&path.child("tolerance"), &tolerance.0, "must be greater or equal to zero"));
    }
}

fn scaling_policy(policy: &HPAScalingPolicy, path: &Path, errors: &mut Errors) {
    if !matches!(policy.type_.as_str(), "Percent" | "Pods") {
        errors.push(Error::not_supported(&path.child("type"), &policy.type_, &["Percent", "Pods"]));
    }
    if policy.value <= 0 {
        errors.push(Error::invalid(&path.child("value"), policy.value, "must be greater than zero"));
    }
    let period = path.child("periodSeconds");
    if policy.period_seconds <= 0 {
        errors.push(Error::invalid(&period, policy.period_seconds, "must be greater than zero"));
    }
    if policy.period_seconds > MAX_PERIOD_SECONDS {
        let message = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
        errors.push(Error::invalid(&period, policy.period_seconds, message));
    }
}

fn metric_spec(spec: &MetricSpec, path: &Path, errors: &mut Errors) {
    let kind = path.child("type");
    if spec.type_.is_empty() {
        errors.push(Error::required(&kind, "must specify a metric source type"));
    }
    if !SOURCES.contains(&spec.type_.as_str()) {
        errors.push(Error::not_supported(&kind, &spec.type_, SOURCES));
    }
    let expected = match spec.type_.as_str() {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => "",
    };
    let given: Vec<&str> = [
        ("object", spec.object.is_some()),
        ("external", spec.external.is_some()),
        ("pods", spec.pods.is_some()),
        ("resource", spec.resource.is_some()),
        ("containerResource", spec.container_resource.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    // Only the first of several is looked at.
    if let Some(first) = given.first() {
        source(spec, first, &path.child(first), errors);
    }
    if !expected.is_empty() && !given.contains(&expected) {
        let message = "must populate information for the given metric source";
        errors.push(Error::required(&path.child(expected), message));
    }
    if given.len() != 1 {
        for other in given.iter().filter(|name| **name != expected) {
            errors.push(Error::forbidden(&path.child(other), "must populate the given metric source only"));
        }
    }
}

fn source(spec: &MetricSpec, name: &str, path: &Path, errors: &mut Errors) {
    let either = "must set either a target value or averageValue";
    match name {
        "object" => {
            let Some(source) = &spec.object else { return };
            reference(&source.described_object, &path.child("describedObject"), errors);
            identifier(&source.metric, &path.child("metric"), errors);
            target(&source.target, &path.child("target"), errors);
            if source.target.value.is_none() && source.target.average_value.is_none() {
                errors.push(Error::required(&path.child("target").child("averageValue"), either));
            }
        }
        "external" => {
            let Some(source) = &spec.external else { return };
            identifier(&source.metric, &path.child("metric"), errors);
            target(&source.target, &path.child("target"), errors);
            let both = "may not set both a target value and averageValue";
            let path = path.child("target");
            match (&source.target.value, &source.target.average_value) {
                (None, None) => errors.push(Error::required(
                    &path.child("averageValue"),
                    "must set either a target value for metric or a per-pod target",
                )),
                (Some(_), Some(_)) => errors.push(Error::forbidden(&path.child("value"), both)),
                _ => {}
            }
        }
        "pods" => {
            let Some(source) = &spec.pods else { return };
            identifier(&source.metric, &path.child("metric"), errors);
            target(&source.target, &path.child("target"), errors);
            let positive = |amount: &Text| amount.0.parse::<Quantity>().is_ok_and(|amount| amount > Quantity::ZERO);
            if !source.target.average_value.as_ref().is_some_and(positive) {
                let path = path.child("target").child("averageValue");
                errors.push(Error::required(&path, "must specify a positive target averageValue"));
            }
        }
        "resource" => {
            let Some(source) = &spec.resource else { return };
            resource(&source.name, &source.target, path, errors);
        }
        _ => {
            let Some(source) = &spec.container_resource else { return };
            resource(&source.name, &source.target, path, errors);
            if source.container.is_empty() {
                errors.push(Error::required(&path.child("container"), "must specify a container"));
            }
        }
    }
}

fn resource(name: &str, wanted: &MetricTarget, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "must specify a resource name"));
    }
    let path = path.child("target");
    target(wanted, &path, errors);
    match (wanted.average_utilization, &wanted.average_value) {
        (None, None) => errors.push(Error::required(
            &path.child("averageUtilization"),
            "must set either a target raw value or a target utilization",
        )),
        (Some(_), Some(_)) => errors.push(Error::forbidden(
            &path.child("averageValue"),
            "may not set both a target raw value and a target utilization",
        )),
        _ => {}
    }
}

fn identifier(metric: &MetricIdentifier, path: &Path, errors: &mut Errors) {
    let name = path.child("name");
    if metric.name.is_empty() {
        errors.push(Error::required(&name, "must specify a metric name"));
    } else {
        segment(&metric.name, &name, errors);
    }
    if let Some(selector) = &metric.selector {
        labels::selector(selector, &path.child("selector"), errors);
    }
}

fn target(target: &MetricTarget, path: &Path, errors: &mut Errors) {
    let kinds = &["Utilization", "Value", "AverageValue"];
    if target.type_.is_empty() {
        errors.push(Error::required(&path.child("type"), "must specify a metric target type"));
    }
    if !kinds.contains(&target.type_.as_str()) {
        let message = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&path.child("type"), &target.type_, message));
    }
    for (name, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
        if let Some(amount) = amount
            && !amount.0.parse::<Quantity>().is_ok_and(|amount| amount > Quantity::ZERO)
        {
            errors.push(Error::invalid(&path.child(name), &amount.0, "must be positive"));
        }
    }
    if let Some(utilization) = target.average_utilization.filter(|utilization| *utilization < 1) {
        let path = path.child("averageUtilization");
        errors.push(Error::invalid(&path, utilization, "must be greater than 0"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> HorizontalPodAutoscaler {
        let good = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
        let mut made = object(with(&good, changes));
        crate::defaults::horizontal_pod_autoscaler(&mut made);
        made
    }

    #[test]
    fn each_rule_names_its_field() {
        let metric = |metric: Value| ("/spec/metrics", json!([metric]));
        let table = [
            (("/spec/minReplicas", json!(0)), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
            (
                ("/spec/minReplicas", json!(6)),
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
            ),
            (("/spec/scaleTargetRef/name", json!("")), "spec.scaleTargetRef.name: Required value"),
            (
                ("/spec/scaleTargetRef/kind", json!("a/b")),
                "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain",
            ),
            (
                metric(json!({"type": "Pods"})),
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
            (
                metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}})),
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value",
            ),
            (
                metric(json!({"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 0}}})),
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ),
            (
                metric(json!({"type": "Object", "object": {"describedObject": {"kind": "I", "name": "i"},
                    "metric": {"name": ""}, "target": {"type": "Value", "value": "1"}}})),
                "spec.metrics[0].object.metric.name: Required value: must specify a metric name",
            ),
            (
                ("/spec/behavior", json!({"scaleUp": {"stabilizationWindowSeconds": 3601}})),
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ),
            (
                ("/spec/behavior", json!({"scaleDown": {"selectPolicy": "Any"}})),
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"Any\": supported values: \"Disabled\", \
                 \"Max\", \"Min\"",
            ),
            (
                (
                    "/spec/behavior",
                    json!({"scaleDown": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}),
                ),
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
            ),
        ];
        assert_eq!(printed(horizontal_pod_autoscaler(&made(&[]))), Vec::<String>::new());
        for (change, expected) in table {
            let found = printed(horizontal_pod_autoscaler(&made(std::slice::from_ref(&change))));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{change:?}: {found:?}");
        }
    }
}
