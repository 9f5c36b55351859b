//! `networking.k8s.io/v1`.

use k8s_openapi::api::networking::v1::{IngressClass, NetworkPolicy, NetworkPolicyPort};

use super::{pointer, text};

pub fn ingress_class(class: &mut IngressClass) {
    if let Some(parameters) = class.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
        pointer(&mut parameters.scope, "Cluster".to_owned());
    }
}

/// A policy is about what comes in, and about what goes out if it has rules for that.
pub fn network_policy(policy: &mut NetworkPolicy) {
    // Go's spec and selector are no pointers: they are always there.
    let spec = policy.spec.get_or_insert_default();
    spec.pod_selector.get_or_insert_default();
    let ports = |ports: &mut Option<Vec<NetworkPolicyPort>>| {
        for port in ports.iter_mut().flatten() {
            text(&mut port.protocol, "TCP");
        }
    };
    spec.ingress.iter_mut().flatten().for_each(|rule| ports(&mut rule.ports));
    spec.egress.iter_mut().flatten().for_each(|rule| ports(&mut rule.ports));
    if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let mut types = vec!["Ingress".to_owned()];
        if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            types.push("Egress".to_owned());
        }
        spec.policy_types = Some(types);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn policies_say_what_they_are_about() {
        let types = |spec: Value| {
            let mut policy: NetworkPolicy = serde_json::from_value(json!({"spec": spec})).expect("a policy");
            network_policy(&mut policy);
            policy.spec.and_then(|spec| spec.policy_types).expect("types")
        };
        assert_eq!(types(json!({})), ["Ingress"]);
        assert_eq!(types(json!({"egress": [{}]})), ["Ingress", "Egress"]);
        assert_eq!(types(json!({"policyTypes": ["Egress"]})), ["Egress"]);
    }
}
