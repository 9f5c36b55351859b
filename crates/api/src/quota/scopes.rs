//! Which objects a quota with scopes is about.

use serde_json::Value;

use crate::decoders::pod_spec;
use crate::pod::qos_class;

pub(super) struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let all = list.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Both ways to say them.
pub(super) fn of(quota: &Value) -> Vec<Scope> {
    let plain = texts(quota.pointer("/spec/scopes")).into_iter();
    let plain = plain.map(|name| Scope { name, operator: "Exists".to_owned(), values: Vec::new() });
    let selected = quota.pointer("/spec/scopeSelector/matchExpressions").and_then(Value::as_array);
    let selected = selected.into_iter().flatten().map(|expression| {
        let text = |field| expression.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        Scope { name: text("scopeName"), operator: text("operator"), values: texts(expression.get("values")) }
    });
    plain.chain(selected).collect()
}

impl Scope {
    pub(super) fn takes_pod(&self, pod: &Value) -> bool {
        let ends = pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|after| after >= 0);
        let best_effort = || qos_class(&pod_spec(pod).unwrap_or_default()) == "BestEffort";
        match &*self.name {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => best_effort(),
            "NotBestEffort" => !best_effort(),
            "PriorityClass" => {
                let class = pod.pointer("/spec/priorityClassName").and_then(Value::as_str).unwrap_or("");
                self.takes(&[class])
            }
            "CrossNamespacePodAffinity" => reaches_out(pod),
            _ => false,
        }
    }

    pub(super) fn takes_claim(&self, claim: &Value) -> bool {
        let text = |pointer| claim.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        self.name == "VolumeAttributesClass"
            && self.takes(&[
                text("/spec/volumeAttributesClassName"),
                text("/status/currentVolumeAttributesClassName"),
                text("/status/modifyVolumeStatus/targetVolumeAttributesClassName"),
            ])
    }

    /// By the classes an object names; an empty text is none.
    fn takes(&self, classes: &[&str]) -> bool {
        let named: Vec<&str> = classes.iter().copied().filter(|class| !class.is_empty()).collect();
        let listed = |class: &&str| self.values.iter().any(|value| value == class);
        match &*self.operator {
            "Exists" => !named.is_empty(),
            "DoesNotExist" => named.is_empty(),
            "In" => named.iter().any(listed),
            "NotIn" => named.is_empty() || named.iter().any(|class| !listed(class)),
            _ => false,
        }
    }
}

/// Whether it wants to be near, or far from, pods of other namespaces.
fn reaches_out(pod: &Value) -> bool {
    let out = |term: &Value| {
        term.get("namespaces").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let list = |field: &str| {
            let pointer = format!("/spec/affinity/{kind}/{field}DuringSchedulingIgnoredDuringExecution");
            pod.pointer(&pointer).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        list("required").iter().any(out)
            || list("preferred").iter().any(|weighted| weighted.get("podAffinityTerm").is_some_and(out))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(spec: Value, pod: Value) -> bool {
        of(&json!({"spec": spec})).iter().all(|scope| scope.takes_pod(&json!({"spec": pod})))
    }

    #[test]
    fn pods() {
        let scopes = |name: &str| json!({"scopes": [name]});
        let plain = json!({"containers": [{"name": "c"}]});
        let asks = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
        let ends = json!({"containers": [], "activeDeadlineSeconds": 5});
        let away = json!({"containers": [], "affinity": {"podAntiAffinity":
            {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaces": ["x"]}}]}}});
        let class = json!({"containers": [], "priorityClassName": "high"});
        let select = |operator: &str, values: Value| {
            json!({"scopeSelector": {"matchExpressions":
                [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
        };
        let table = [
            (json!({}), &plain, true),
            (scopes("BestEffort"), &plain, true),
            (scopes("BestEffort"), &asks, false),
            (scopes("NotBestEffort"), &asks, true),
            (scopes("Terminating"), &ends, true),
            (scopes("NotTerminating"), &ends, false),
            (scopes("CrossNamespacePodAffinity"), &away, true),
            (scopes("CrossNamespacePodAffinity"), &plain, false),
            (scopes("PriorityClass"), &class, true),
            (scopes("PriorityClass"), &plain, false),
            (select("In", json!(["high"])), &class, true),
            (select("In", json!(["low"])), &class, false),
            (select("NotIn", json!(["high"])), &class, false),
            (select("NotIn", json!(["high"])), &plain, true),
            (select("DoesNotExist", json!([])), &plain, true),
            (scopes("VolumeAttributesClass"), &plain, false),
            (json!({"scopes": ["BestEffort", "Terminating"]}), &plain, false),
        ];
        for (spec, pod, expected) in table {
            assert_eq!(takes(spec.clone(), pod.clone()), expected, "{spec} {pod}");
        }
    }

    #[test]
    fn claims() {
        let quota = json!({"spec": {"scopeSelector": {"matchExpressions":
            [{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]}}});
        let takes = |claim: Value| of(&quota).iter().all(|scope| scope.takes_claim(&claim));
        assert!(takes(json!({"spec": {"volumeAttributesClassName": "fast"}})));
        assert!(takes(json!({"spec": {"volumeAttributesClassName": "slow"},
            "status": {"currentVolumeAttributesClassName": "fast"}})));
        assert!(!takes(json!({"spec": {}})));
    }
}
