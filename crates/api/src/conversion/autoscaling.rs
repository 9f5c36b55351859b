//! `autoscaling/v1 HorizontalPodAutoscaler` ↔ `autoscaling/v2`. The first version has a field for the CPU's
//! utilization; everything else that the second can say travels in annotations.

use serde_json::{Map, Value, json};

pub const V1: &str = "autoscaling/v1";
pub const V2: &str = "autoscaling/v2";

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is(object: &Value, version: &str) -> bool {
    object["apiVersion"] == version
}

fn members(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.as_object_mut()
}

fn take(value: &mut Value, name: &str) -> Option<Value> {
    members(value)?.remove(name).filter(|value| !value.is_null())
}

/// Without those that are null.
fn object(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let given = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect())
}

pub fn to_v2(mut autoscaler: Value) -> Value {
    if is(&autoscaler, V2) {
        return autoscaler;
    }
    let annotation = |autoscaler: &mut Value, name: &str| -> Option<Value> {
        let annotations = members(autoscaler.get_mut("metadata")?.get_mut("annotations")?)?;
        // What cannot be read is left out, as upstream does.
        serde_json::from_str(annotations.remove(name)?.as_str()?).ok()
    };
    let list = |value: Option<Value>| value.and_then(|value| value.as_array().cloned()).unwrap_or_default();
    let metrics = list(annotation(&mut autoscaler, METRICS));
    let current = list(annotation(&mut autoscaler, CURRENT_METRICS));
    let conditions = annotation(&mut autoscaler, CONDITIONS);
    let behavior = annotation(&mut autoscaler, BEHAVIOR);
    if autoscaler["metadata"]["annotations"].as_object().is_some_and(Map::is_empty)
        && let Some(metadata) = autoscaler.get_mut("metadata").and_then(members)
    {
        metadata.remove("annotations");
    }
    if let Some(spec) = autoscaler.get_mut("spec").filter(|spec| spec.is_object()) {
        let mut all = Vec::new();
        if let Some(percent) = take(spec, "targetCPUUtilizationPercentage") {
            all.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": percent}}}));
        }
        all.extend(metrics.iter().map(spec_to_v2));
        if !all.is_empty() {
            spec["metrics"] = Value::Array(all);
        }
        if let Some(behavior) = behavior {
            spec["behavior"] = behavior;
        }
    }
    if let Some(status) = autoscaler.get_mut("status").filter(|status| status.is_object()) {
        if let Some(percent) = take(status, "currentCPUUtilizationPercentage") {
            status["currentMetrics"] = json!([{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": percent}}}]);
        }
        if !current.is_empty() {
            status["currentMetrics"] = current.iter().map(status_to_v2).collect();
        }
        if let Some(conditions) = conditions {
            status["conditions"] = conditions;
        }
    }
    autoscaler["apiVersion"] = V2.into();
    autoscaler
}

pub fn to_v1(mut autoscaler: Value) -> Value {
    if is(&autoscaler, V1) {
        return autoscaler;
    }
    let mut annotations = Vec::new();
    if let Some(spec) = autoscaler.get_mut("spec").filter(|spec| spec.is_object()) {
        let metrics = take(spec, "metrics").and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
        let mut others = Vec::new();
        for metric in metrics {
            match cpu_utilization(&metric) {
                Some(percent) => spec["targetCPUUtilizationPercentage"] = percent.clone(),
                None => others.push(spec_to_v1(&metric)),
            }
        }
        if !others.is_empty() {
            annotations.push((METRICS, Value::Array(others)));
        }
        annotations.extend(take(spec, "behavior").map(|behavior| (BEHAVIOR, behavior)));
    }
    if let Some(status) = autoscaler.get_mut("status").filter(|status| status.is_object()) {
        let current =
            take(status, "currentMetrics").and_then(|current| current.as_array().cloned()).unwrap_or_default();
        for metric in &current {
            let utilization = &metric["resource"]["current"]["averageUtilization"];
            if metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && !utilization.is_null() {
                status["currentCPUUtilizationPercentage"] = utilization.clone();
            }
        }
        // Of the CPU too: its raw value has no field.
        if !current.is_empty() {
            annotations.push((CURRENT_METRICS, current.iter().map(status_to_v1).collect()));
        }
        annotations.extend(take(status, "conditions").map(|conditions| (CONDITIONS, conditions)));
        if status.get("currentReplicas").is_none() {
            status["currentReplicas"] = 0.into();
        }
    }
    for (name, value) in annotations {
        autoscaler["metadata"]["annotations"][name] = value.to_string().into();
    }
    autoscaler["apiVersion"] = V1.into();
    autoscaler
}

fn cpu_utilization(metric: &Value) -> Option<&Value> {
    let resource = &metric["resource"];
    let percent = &resource["target"]["averageUtilization"];
    (metric["type"] == "Resource" && resource["name"] == "cpu" && !percent.is_null()).then_some(percent)
}

fn with_type(kind: &Value, name: &str, source: Value) -> Value {
    let mut metric = Map::new();
    metric.insert("type".to_owned(), kind.clone());
    if !name.is_empty() {
        metric.insert(name.to_owned(), source);
    }
    Value::Object(metric)
}

fn spec_to_v2(metric: &Value) -> Value {
    let kind = &metric["type"];
    let target = |value: &Value, average: &Value, utilization: &Value, kind: &str| {
        object([
            ("type", kind.into()),
            ("value", value.clone()),
            ("averageValue", average.clone()),
            ("averageUtilization", utilization.clone()),
        ])
    };
    let none = &Value::Null;
    let identifier = |source: &Value, selector: &str| {
        object([("name", source["metricName"].clone()), ("selector", source[selector].clone())])
    };
    match kind.as_str().unwrap_or("") {
        "Object" => {
            let source = &metric["object"];
            let target = match &source["averageValue"] {
                Value::Null => target(&source["targetValue"], none, none, "Value"),
                average => target(none, average, none, "AverageValue"),
            };
            let source = json!({"describedObject": source["target"], "metric": identifier(source, "selector"),
                "target": target});
            with_type(kind, "object", source)
        }
        "Pods" => {
            let source = &metric["pods"];
            let target = target(none, &source["targetAverageValue"], none, "AverageValue");
            with_type(kind, "pods", json!({"metric": identifier(source, "selector"), "target": target}))
        }
        "External" => {
            let source = &metric["external"];
            let (value, average) = (&source["targetValue"], &source["targetAverageValue"]);
            let target = target(value, average, none, if value.is_null() { "AverageValue" } else { "Value" });
            with_type(kind, "external", json!({"metric": identifier(source, "metricSelector"), "target": target}))
        }
        name @ ("Resource" | "ContainerResource") => {
            let name = if name == "Resource" { "resource" } else { "containerResource" };
            let source = &metric[name];
            let (percent, average) = (&source["targetAverageUtilization"], &source["targetAverageValue"]);
            let target = target(none, average, percent, if percent.is_null() { "AverageValue" } else { "Utilization" });
            let members =
                [("name", source["name"].clone()), ("container", source["container"].clone()), ("target", target)];
            with_type(kind, name, object(members))
        }
        _ => with_type(kind, "", Value::Null),
    }
}

fn spec_to_v1(metric: &Value) -> Value {
    let kind = &metric["type"];
    match kind.as_str().unwrap_or("") {
        "Object" => {
            let source = &metric["object"];
            let value = match &source["target"]["value"] {
                Value::Null => "0".into(),
                value => value.clone(),
            };
            let members = [
                ("target", source["describedObject"].clone()),
                ("metricName", source["metric"]["name"].clone()),
                ("targetValue", value),
                ("selector", source["metric"]["selector"].clone()),
                ("averageValue", source["target"]["averageValue"].clone()),
            ];
            with_type(kind, "object", object(members))
        }
        "Pods" => {
            let source = &metric["pods"];
            let members = [
                ("metricName", source["metric"]["name"].clone()),
                ("targetAverageValue", source["target"]["averageValue"].clone()),
                ("selector", source["metric"]["selector"].clone()),
            ];
            with_type(kind, "pods", object(members))
        }
        "External" => {
            let source = &metric["external"];
            let members = [
                ("metricName", source["metric"]["name"].clone()),
                ("metricSelector", source["metric"]["selector"].clone()),
                ("targetValue", source["target"]["value"].clone()),
                ("targetAverageValue", source["target"]["averageValue"].clone()),
            ];
            with_type(kind, "external", object(members))
        }
        name @ ("Resource" | "ContainerResource") => {
            let name = if name == "Resource" { "resource" } else { "containerResource" };
            let source = &metric[name];
            let members = [
                ("name", source["name"].clone()),
                ("targetAverageUtilization", source["target"]["averageUtilization"].clone()),
                ("targetAverageValue", source["target"]["averageValue"].clone()),
                ("container", source["container"].clone()),
            ];
            with_type(kind, name, object(members))
        }
        _ => with_type(kind, "", Value::Null),
    }
}

fn status_to_v2(metric: &Value) -> Value {
    let kind = &metric["type"];
    let identifier = |source: &Value, selector: &str| {
        object([("name", source["metricName"].clone()), ("selector", source[selector].clone())])
    };
    match kind.as_str().unwrap_or("") {
        "Object" => {
            let source = &metric["object"];
            let current =
                object([("value", source["currentValue"].clone()), ("averageValue", source["averageValue"].clone())]);
            let source = json!({"describedObject": source["target"], "metric": identifier(source, "selector"),
                "current": current});
            with_type(kind, "object", source)
        }
        "Pods" => {
            let source = &metric["pods"];
            let current = object([("averageValue", source["currentAverageValue"].clone())]);
            with_type(kind, "pods", json!({"metric": identifier(source, "selector"), "current": current}))
        }
        "External" => {
            let source = &metric["external"];
            let current = object([
                ("value", source["currentValue"].clone()),
                ("averageValue", source["currentAverageValue"].clone()),
            ]);
            with_type(kind, "external", json!({"metric": identifier(source, "metricSelector"), "current": current}))
        }
        name @ ("Resource" | "ContainerResource") => {
            let name = if name == "Resource" { "resource" } else { "containerResource" };
            let source = &metric[name];
            let current = object([
                ("averageUtilization", source["currentAverageUtilization"].clone()),
                ("averageValue", source["currentAverageValue"].clone()),
            ]);
            let members =
                [("name", source["name"].clone()), ("container", source["container"].clone()), ("current", current)];
            with_type(kind, name, object(members))
        }
        _ => with_type(kind, "", Value::Null),
    }
}

fn status_to_v1(metric: &Value) -> Value {
    let kind = &metric["type"];
    let amount = |value: &Value| if value.is_null() { "0".into() } else { value.clone() };
    match kind.as_str().unwrap_or("") {
        "Object" => {
            let source = &metric["object"];
            let members = [
                ("target", source["describedObject"].clone()),
                ("metricName", source["metric"]["name"].clone()),
                ("currentValue", amount(&source["current"]["value"])),
                ("selector", source["metric"]["selector"].clone()),
                ("averageValue", source["current"]["averageValue"].clone()),
            ];
            with_type(kind, "object", object(members))
        }
        "Pods" => {
            let source = &metric["pods"];
            let members = [
                ("metricName", source["metric"]["name"].clone()),
                ("currentAverageValue", amount(&source["current"]["averageValue"])),
                ("selector", source["metric"]["selector"].clone()),
            ];
            with_type(kind, "pods", object(members))
        }
        "External" => {
            let source = &metric["external"];
            let members = [
                ("metricName", source["metric"]["name"].clone()),
                ("metricSelector", source["metric"]["selector"].clone()),
                ("currentValue", amount(&source["current"]["value"])),
                ("currentAverageValue", source["current"]["averageValue"].clone()),
            ];
            with_type(kind, "external", object(members))
        }
        name @ ("Resource" | "ContainerResource") => {
            let name = if name == "Resource" { "resource" } else { "containerResource" };
            let source = &metric[name];
            let members = [
                ("name", source["name"].clone()),
                ("currentAverageUtilization", source["current"]["averageUtilization"].clone()),
                ("currentAverageValue", amount(&source["current"]["averageValue"])),
                ("container", source["container"].clone()),
            ];
            with_type(kind, name, object(members))
        }
        _ => with_type(kind, "", Value::Null),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_has_a_field_and_the_rest_annotations() {
        let v1 = json!({"apiVersion": V1, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"name": "d"}}});
        let v2 = to_v2(v1.clone());
        assert_eq!(
            v2["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 70}}}])
        );
        assert_eq!(to_v1(v2), v1);
    }

    #[test]
    fn every_metric_survives_the_first_version() {
        let v2 = json!({"apiVersion": V2, "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"name": "d"},
                "behavior": {"scaleDown": {"selectPolicy": "Max"}},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 70}}},
                    {"type": "Resource", "resource": {"name": "memory",
                        "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                        "target": {"type": "Utilization", "averageUtilization": 5}}},
                    {"type": "Pods", "pods": {"metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "5"}}},
                    {"type": "Object", "object": {"metric": {"name": "m"}, "describedObject": {"kind": "I", "name": "i"},
                        "target": {"type": "Value", "value": "5"}}},
                    {"type": "External", "external": {"metric": {"name": "m"},
                        "target": {"type": "AverageValue", "averageValue": "5"}}}]},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 12, "averageValue": "120m"}}}]}});
        let v1 = to_v1(v2.clone());
        assert_eq!((&v1["spec"]["targetCPUUtilizationPercentage"], &v1["spec"]["metrics"]), (&json!(70), &Value::Null));
        assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 12);
        let text = v1["metadata"]["annotations"][METRICS].as_str().expect("an annotation");
        assert!(text.contains("\"targetAverageValue\":\"1Gi\""), "{text}");
        assert_eq!(to_v2(v1), v2);
    }

    #[test]
    fn annotations_that_are_not_json_vanish() {
        let v1 = json!({"apiVersion": V1, "metadata": {"annotations": {METRICS: "{", "mine": "x"}}, "spec": {}});
        let v2 = to_v2(v1);
        assert_eq!((&v2["metadata"]["annotations"], &v2["spec"]), (&json!({"mine": "x"}), &json!({})));
    }
}
