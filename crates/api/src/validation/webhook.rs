//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhookConfiguration, RuleWithOperations, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::admission_rules::{self, one_of};
use super::{Errors, formats, labels, segments};

/// Versions of AdmissionReview that the server speaks, in upstream's words.
const REVIEWS: &str = "v1, v1beta1";
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
/// Before version 1 of this API.
const ALL_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
pub(super) const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];

/// A webhook of either kind, borrowed.
struct Hook<'a> {
    name: &'a str,
    rules: Option<&'a Vec<RuleWithOperations>>,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    side_effects: &'a str,
    timeout: Option<i32>,
    selectors: [(&'a str, Option<&'a LabelSelector>); 2],
    reinvocation: Option<&'a str>,
    client: &'a WebhookClientConfig,
    conditions: Option<&'a [MatchCondition]>,
    reviews: &'a [String],
}

macro_rules! hook {
    ($hook:ident, $reinvocation:expr) => {
        Hook {
            name: &$hook.name,
            rules: $hook.rules.as_ref(),
            failure_policy: $hook.failure_policy.as_deref(),
            match_policy: $hook.match_policy.as_deref(),
            side_effects: &$hook.side_effects,
            timeout: $hook.timeout_seconds,
            selectors: [
                ("namespaceSelector", $hook.namespace_selector.as_ref()),
                ("objectSelector", $hook.object_selector.as_ref()),
            ],
            reinvocation: $reinvocation,
            client: &$hook.client_config,
            conditions: $hook.match_conditions.as_deref(),
            reviews: &$hook.admission_review_versions,
        }
    };
}

/// What is asked of webhooks beyond what older versions of this API asked: of an update only what held before.
struct Asked {
    known_review: bool,
    no_side_effects: bool,
    unique_names: bool,
    label_values: bool,
    conditions: bool,
}

impl Asked {
    const ALL: Self =
        Self { known_review: true, no_side_effects: true, unique_names: true, label_values: true, conditions: true };

    fn of_update(new: &[Hook<'_>], old: &[Hook<'_>]) -> Self {
        let names: Vec<&str> = old.iter().map(|hook| hook.name).filter(|name| !name.is_empty()).collect();
        Self {
            known_review: old.iter().all(|hook| hook.reviews.iter().any(|version| is_known(version))),
            no_side_effects: old.iter().all(|hook| SIDE_EFFECTS.contains(&hook.side_effects)),
            unique_names: names.iter().collect::<BTreeSet<_>>().len() == names.len(),
            label_values: old.iter().all(|hook| {
                let mut errors = Errors::new();
                for selector in hook.selectors.iter().filter_map(|(_, selector)| *selector) {
                    labels::selector(selector, &Path::default(), &mut errors);
                }
                errors.is_empty()
            }),
            conditions: !new.iter().map(|hook| hook.conditions).eq(old.iter().map(|hook| hook.conditions)),
        }
    }
}

fn of_validating(configuration: &ValidatingWebhookConfiguration) -> Vec<Hook<'_>> {
    configuration.webhooks.iter().flatten().map(|hook| hook!(hook, None)).collect()
}

fn of_mutating(configuration: &MutatingWebhookConfiguration) -> Vec<Hook<'_>> {
    let hooks = configuration.webhooks.iter().flatten();
    hooks.map(|hook| hook!(hook, hook.reinvocation_policy.as_deref())).collect()
}

pub fn validating(configuration: &ValidatingWebhookConfiguration) -> Errors {
    hooks(&of_validating(configuration), &Asked::ALL)
}

pub fn validating_update(new: &ValidatingWebhookConfiguration, old: &ValidatingWebhookConfiguration) -> Errors {
    let (new, old) = (of_validating(new), of_validating(old));
    hooks(&new, &Asked::of_update(&new, &old))
}

pub fn mutating(configuration: &MutatingWebhookConfiguration) -> Errors {
    hooks(&of_mutating(configuration), &Asked::ALL)
}

pub fn mutating_update(new: &MutatingWebhookConfiguration, old: &MutatingWebhookConfiguration) -> Errors {
    let (new, old) = (of_mutating(new), of_mutating(old));
    hooks(&new, &Asked::of_update(&new, &old))
}

fn hooks(hooks: &[Hook<'_>], asked: &Asked) -> Errors {
    let mut errors = Errors::new();
    let mut known = BTreeSet::new();
    for (index, hook) in hooks.iter().enumerate() {
        let path = Path::new("webhooks").index(index);
        webhook(hook, asked, &path, &mut errors);
        reviews(hook.reviews, asked, &path.child("admissionReviewVersions"), &mut errors);
        if asked.unique_names && !hook.name.is_empty() && !known.insert(hook.name) {
            errors.push(Error::duplicate(&path.child("name"), hook.name));
        }
    }
    errors
}

fn webhook(hook: &Hook<'_>, asked: &Asked, path: &Path, errors: &mut Errors) {
    segments::fully_qualified(hook.name, &path.child("name"), errors);
    for (index, rule) in hook.rules.into_iter().flatten().enumerate() {
        admission_rules::rule(&rule.into(), &path.child("rules").index(index), errors);
    }
    one_of(hook.failure_policy, FAILURE_POLICIES, &path.child("failurePolicy"), errors);
    one_of(hook.match_policy, MATCH_POLICIES, &path.child("matchPolicy"), errors);
    let at = path.child("sideEffects");
    let side_effects = if asked.no_side_effects { SIDE_EFFECTS } else { ALL_SIDE_EFFECTS };
    match hook.side_effects {
        "" => errors.push(Error::required(&at, format!("must specify one of {}", side_effects.join(", ")))),
        other => one_of(Some(other), side_effects, &at, errors),
    }
    if let Some(seconds) = hook.timeout.filter(|seconds| !(1..=30).contains(seconds)) {
        let path = path.child("timeoutSeconds");
        errors.push(Error::invalid(&path, seconds, "the timeout value must be between 1 and 30 seconds"));
    }
    let judge = if asked.label_values { labels::selector } else { labels::selector_of_any_values };
    for (field, selector) in hook.selectors {
        if let Some(selector) = selector {
            judge(selector, &path.child(field), errors);
        }
    }
    one_of(hook.reinvocation, REINVOCATION_POLICIES, &path.child("reinvocationPolicy"), errors);
    client(hook.client, &path.child("clientConfig"), errors);
    if asked.conditions {
        admission_rules::match_conditions(hook.conditions, &path.child("matchConditions"), errors);
    }
}

fn client(client: &WebhookClientConfig, path: &Path, errors: &mut Errors) {
    match (&client.url, &client.service) {
        (Some(url), None) => segments::webhook_url(url, &path.child("url"), errors),
        (None, Some(service)) => {
            let service = segments::HookService {
                name: &service.name,
                namespace: &service.namespace,
                path: service.path.as_deref(),
                port: service.port.unwrap_or(0),
            };
            segments::webhook_service(&service, &path.child("service"), errors);
        }
        _ => errors.push(Error::required(path, "exactly one of url or service is required")),
    }
}

fn is_known(version: &str) -> bool {
    matches!(version, "v1" | "v1beta1")
}

fn reviews(versions: &[String], asked: &Asked, path: &Path, errors: &mut Errors) {
    if versions.is_empty() {
        errors.push(Error::required(path, format!("must specify one of {REVIEWS}")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        if seen.insert(version) {
            formats::invalid(&path.index(index), version, names::dns1035_label(version), errors);
        } else {
            errors.push(Error::invalid(&path.index(index), version, "duplicate version"));
        }
    }
    if asked.known_review && !versions.iter().any(|version| is_known(version)) {
        let detail = format!("must include at least one of {REVIEWS}");
        errors.push(Error::invalid(path, &super::json(&versions), detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "matchConditions": [
                {"name": "a", "expression": "true"}],
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
        let made = |changes: &[(&str, Value)]| -> MutatingWebhookConfiguration {
            let mut made = object(with(&base, changes));
            crate::defaults::mutating_webhooks(&mut made);
            made
        };
        let table = [
            ("name", json!("a.b"), "name: Invalid value: \"a.b\": should be a domain with at least three segments"),
            ("sideEffects", json!(""), "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
            ("sideEffects", json!("Some"), "sideEffects: Unsupported value: \"Some\": supported values: \"None\""),
            ("timeoutSeconds", json!(31), "timeoutSeconds: Invalid value: 31: the timeout value must be between"),
            ("failurePolicy", json!("X"), "failurePolicy: Unsupported value: \"X\": supported values: \"Fail\""),
            ("reinvocationPolicy", json!("X"), "reinvocationPolicy: Unsupported value: \"X\""),
            ("clientConfig", json!({}), "clientConfig: Required value: exactly one of url or service is required"),
            ("clientConfig/service/name", json!(""), "clientConfig.service.name: Required value: service name is"),
            ("admissionReviewVersions", json!([]), "admissionReviewVersions: Required value: must specify one of v1,"),
            (
                "admissionReviewVersions",
                json!(["v2"]),
                "admissionReviewVersions: Invalid value: [\"v2\"]: must include",
            ),
            ("matchConditions/0/expression", json!(" "), "matchConditions[0].expression: Required value"),
            ("matchConditions/0/name", json!(""), "matchConditions[0].name: Required value"),
            ("rules/0/operations", json!(["X"]), "rules[0].operations[0]: Unsupported value: \"X\""),
            (
                "rules/0/operations",
                json!(["*", "CREATE"]),
                "rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if",
            ),
            ("rules/0/apiVersions", json!([]), "rules[0].apiVersions: Required value"),
            (
                "rules/0/resources",
                json!(["*", "pods"]),
                "rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is",
            ),
            ("rules/0/resources", json!(["pods/*", "pods/log"]), "rules[0].resources[1]: Invalid value: \"pods/log\""),
            ("rules/0/scope", json!("X"), "rules[0].scope: Unsupported value: \"X\": supported values: \"*\""),
        ];
        assert_eq!(printed(mutating(&made(&[]))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(mutating(&made(&[(&format!("/webhooks/0/{pointer}"), value)])));
            assert!(
                found.len() == 1 && found[0].starts_with(&format!("webhooks[0].{expected}")),
                "{pointer}: {found:?}"
            );
        }
        let twice = with(&base, &[("/webhooks/1", base["webhooks"][0].clone())]);
        let mut twice: ValidatingWebhookConfiguration = object(twice);
        crate::defaults::validating_webhooks(&mut twice);
        assert_eq!(printed(validating(&twice)), ["webhooks[1].name: Duplicate value: \"a.b.c\""]);
    }

    #[test]
    fn an_update_need_not_mend_what_older_servers_let_in() {
        let made = |changes: &[(&str, Value)]| -> ValidatingWebhookConfiguration {
            let base = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://example.org"}, "namespaceSelector": {}, "matchConditions": []}]});
            let mut made = object(with(&base, changes));
            crate::defaults::validating_webhooks(&mut made);
            made
        };
        let (good, label) = (made(&[]), "/webhooks/0/namespaceSelector/matchExpressions");
        let condition = json!([{"name": "", "expression": "true"}]);
        for (pointer, value) in [
            ("/webhooks/0/sideEffects", json!("Some")),
            ("/webhooks/0/admissionReviewVersions", json!(["v2"])),
            (label, json!([{"key": "k", "operator": "In", "values": ["not a label"]}])),
            ("/webhooks/0/matchConditions", condition.clone()),
        ] {
            let odd = made(&[(pointer, value)]);
            assert_eq!(printed(validating(&odd)).len(), 1, "{pointer}");
            assert_eq!(printed(validating_update(&odd, &good)).len(), 1, "{pointer}");
            assert_eq!(printed(validating_update(&odd, &odd)), [""; 0], "{pointer}");
            assert_eq!(printed(validating_update(&good, &odd)), [""; 0], "{pointer}");
        }
        let never = made(&[("/webhooks/0/sideEffects", json!("Never"))]);
        assert_eq!(printed(validating_update(&never, &never)).len(), 1);
        // Conditions that changed are looked at.
        let (odd, other) =
            (made(&[("/webhooks/0/matchConditions", condition)]), "/webhooks/0/matchConditions/0/expression");
        let mut changed = serde_json::to_value(&odd).expect("it has a form");
        *changed.pointer_mut(other).expect("it is there") = json!("false");
        assert_eq!(printed(validating_update(&object(changed), &odd)).len(), 1);
    }
}
