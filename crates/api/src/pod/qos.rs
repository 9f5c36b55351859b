//! The quality-of-service class: who is evicted last.

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use super::{containers, requests};

/// Upstream's `ComputePodQOS`, from cpu and memory alone.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    // What is said for the pod as a whole goes before what its containers say.
    let said: Vec<Option<&ResourceRequirements>> = match requests::set_for_pod(spec) {
        true => vec![spec.resources.as_ref()],
        false => containers::all(spec).map(|container| container.resources.as_ref()).collect(),
    };
    for resources in said {
        let asked = requests::amounts(resources.and_then(|resources| resources.requests.as_ref()));
        let most = requests::amounts(resources.and_then(|resources| resources.limits.as_ref()));
        for name in ["cpu", "memory"] {
            let positive = |list: &requests::Amounts| list.get(name).copied().filter(|amount| !amount.is_zero());
            let (asked, most) = (positive(&asked), positive(&most));
            any |= asked.is_some() || most.is_some();
            // A request that was left out equals its limit.
            guaranteed &= most.is_some() && asked.is_none_or(|asked| Some(asked) == most);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(containers: Value) -> &'static str {
        qos_class(&serde_json::from_value(json!({"containers": containers})).expect("a pod spec"))
    }

    #[test]
    fn the_pods_own_resources_decide() {
        let whole = |resources: Value| {
            let best_effort = json!([{"name": "a"}]);
            qos_class(
                &serde_json::from_value(json!({"containers": best_effort, "resources": resources})).expect("a spec"),
            )
        };
        assert_eq!(whole(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(whole(json!({"limits": {"cpu": "1"}})), "Burstable");
        assert_eq!(whole(json!({"requests": {"cpu": "1", "memory": "1Gi"}})), "Burstable");
        assert_eq!(whole(json!({})), "BestEffort");
    }

    #[test]
    fn classes() {
        let full = json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        let equal = json!({"name": "a", "resources": {
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}});
        let some = json!({"name": "b", "resources": {"requests": {"cpu": "1"}}});
        let none = json!({"name": "c", "resources": {"limits": {"cpu": "0"}}});
        assert_eq!(class(json!([none])), "BestEffort");
        assert_eq!(class(json!([full, equal])), "Guaranteed");
        assert_eq!(class(json!([some])), "Burstable");
        assert_eq!(class(json!([full, none])), "Burstable");
    }
}
