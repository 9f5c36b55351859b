//! `admissionregistration.k8s.io/v1`.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration, WebhookClientConfig,
};

use super::pointer;

/// What webhooks of both kinds share; their types differ.
macro_rules! webhook {
    ($hook:expr) => {
        pointer(&mut $hook.failure_policy, "Fail".to_owned());
        pointer(&mut $hook.match_policy, "Equivalent".to_owned());
        $hook.namespace_selector.get_or_insert_default();
        $hook.object_selector.get_or_insert_default();
        pointer(&mut $hook.timeout_seconds, 10);
        service(&mut $hook.client_config);
        for rule in $hook.rules.iter_mut().flatten() {
            pointer(&mut rule.scope, "*".to_owned());
        }
    };
}

pub fn validating_webhooks(configuration: &mut ValidatingWebhookConfiguration) {
    for hook in configuration.webhooks.iter_mut().flatten() {
        webhook!(hook);
    }
}

pub fn mutating_webhooks(configuration: &mut MutatingWebhookConfiguration) {
    for hook in configuration.webhooks.iter_mut().flatten() {
        webhook!(hook);
        pointer(&mut hook.reinvocation_policy, "Never".to_owned());
    }
}

fn service(config: &mut WebhookClientConfig) {
    if let Some(service) = &mut config.service {
        pointer(&mut service.port, 443);
    }
}

pub fn validating_policy(policy: &mut ValidatingAdmissionPolicy) {
    let spec = policy.spec.get_or_insert_default();
    pointer(&mut spec.failure_policy, "Fail".to_owned());
    resources(&mut spec.match_constraints);
}

pub fn validating_binding(binding: &mut ValidatingAdmissionPolicyBinding) {
    resources(&mut binding.spec.match_resources);
}

pub fn mutating_policy(policy: &mut MutatingAdmissionPolicy) {
    let spec = policy.spec.get_or_insert_default();
    pointer(&mut spec.failure_policy, "Fail".to_owned());
    resources(&mut spec.match_constraints);
}

pub fn mutating_binding(binding: &mut MutatingAdmissionPolicyBinding) {
    if let Some(spec) = &mut binding.spec {
        resources(&mut spec.match_resources);
    }
}

fn resources(resources: &mut Option<MatchResources>) {
    let Some(resources) = resources else { return };
    pointer(&mut resources.match_policy, "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().flatten();
    for rule in rules.chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        pointer(&mut rule.scope, "*".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_is_filled_in() {
        let mut made: MutatingWebhookConfiguration = serde_json::from_value(json!({"webhooks": [
            {"clientConfig": {"service": {"name": "a", "namespace": "b"}}, "rules": [{}]}]}))
        .expect("a configuration");
        mutating_webhooks(&mut made);
        let hook = &serde_json::to_value(&made).expect("JSON")["webhooks"][0];
        assert_eq!(hook["clientConfig"]["service"]["port"], 443);
        assert_eq!(hook["rules"][0]["scope"], "*");
        assert_eq!((&hook["namespaceSelector"], &hook["timeoutSeconds"]), (&json!({}), &json!(10)));
        assert_eq!((&hook["failurePolicy"], &hook["reinvocationPolicy"]), (&json!("Fail"), &json!("Never")));
    }
}
