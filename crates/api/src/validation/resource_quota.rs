//! ResourceQuotas.

use std::collections::{BTreeMap, BTreeSet};

use base_meta::field::{Error, Path};
use base_meta::names;
use base_meta::quantity::Quantity;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::{Errors, formats, json, resources};

/// What pods ask of nodes, and nothing else.
const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// Counted in whole objects.
const COUNTS: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const MORE: &[&str] =
    &["ephemeral-storage", "limits.ephemeral-storage", "requests.ephemeral-storage", "requests.storage"];
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const OPPOSITES: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub fn resource_quota(quota: &ResourceQuota) -> Errors {
    let mut errors = Errors::new();
    let empty = ResourceQuotaSpec::default();
    let spec = quota.spec.as_ref().unwrap_or(&empty);
    let path = Path::new("spec");
    amounts(spec.hard.as_ref(), &path.child("hard"), &mut errors);
    scopes(spec, &path.child("scopes"), &mut errors);
    scope_selector(spec, &path.child("scopeSelector").child("matchExpressions"), &mut errors);
    errors.extend(resource_quota_status(quota));
    errors
}

pub fn resource_quota_update(new: &ResourceQuota, old: &ResourceQuota) -> Errors {
    let mut errors = resource_quota(new);
    let scopes = |quota: &ResourceQuota| -> Vec<String> {
        quota.spec.as_ref().and_then(|spec| spec.scopes.clone()).unwrap_or_default()
    };
    let (new, old) = (scopes(new), scopes(old));
    if new.iter().collect::<BTreeSet<_>>() != old.iter().collect::<BTreeSet<_>>() {
        errors.push(Error::invalid(&Path::new("spec").child("scopes"), &json(&new), "field is immutable"));
    }
    errors
}

pub fn resource_quota_status(quota: &ResourceQuota) -> Errors {
    let mut errors = Errors::new();
    let Some(status) = &quota.status else { return errors };
    let path = Path::new("status");
    amounts(status.hard.as_ref(), &path.child("hard"), &mut errors);
    amounts(status.used.as_ref(), &path.child("used"), &mut errors);
    errors
}

fn amounts(list: Option<&BTreeMap<String, Text>>, path: &Path, errors: &mut Errors) {
    for (name, amount) in list.into_iter().flatten() {
        let path = path.key(name);
        formats::invalid(&path, name, names::qualified_name(name), errors);
        if !name.contains('/') {
            if !resources::is_standard(name) {
                errors.push(Error::invalid(&path, name, "must be a standard resource type or fully qualified"));
            }
            if !is_quota_name(name) {
                errors.push(Error::invalid(&path, name, "must be a standard resource for quota"));
            }
        }
        resources::quantity(&amount.0, &path, errors);
        let whole = amount.0.parse::<Quantity>().is_ok_and(|amount| amount.milli_value() % 1000 == 0);
        if COUNTS.contains(&name.as_str()) && !whole {
            errors.push(Error::invalid(&path, &amount.0, "must be an integer"));
        }
    }
}

fn is_quota_name(name: &str) -> bool {
    COMPUTE.contains(&name)
        || COUNTS.contains(&name)
        || MORE.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || COMPUTE.contains(&resource)
        }
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// Standard resources under `hard` that the scope says nothing about.
fn misfits(spec: &ResourceQuotaSpec, scope: &str) -> usize {
    spec.hard.iter().flatten().filter(|(name, _)| is_quota_name(name) && !fits(scope, name)).count()
}

fn scopes(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let scopes = spec.scopes.clone().unwrap_or_default();
    let mut refuse = |message: &str| errors.push(Error::invalid(path, &json(&scopes), message));
    for scope in &scopes {
        if !SCOPES.contains(&scope.as_str()) {
            refuse("unsupported scope");
        }
        for _ in 0..misfits(spec, scope) {
            refuse("unsupported scope applied to resource");
        }
    }
    for pair in OPPOSITES {
        if pair.iter().all(|scope| scopes.iter().any(|found| found == scope)) {
            refuse("conflicting scopes");
        }
    }
}

fn scope_selector(spec: &ResourceQuotaSpec, path: &Path, errors: &mut Errors) {
    let Some(selector) = &spec.scope_selector else { return };
    let mut seen = BTreeSet::new();
    for wanted in selector.match_expressions.iter().flatten() {
        let scope = wanted.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            errors.push(Error::invalid(&path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in 0..misfits(spec, scope) {
            errors.push(Error::invalid(path, &json(selector), "unsupported scope applied to resource"));
        }
        operator(wanted, path, errors);
        seen.insert(scope);
    }
    for pair in OPPOSITES {
        if pair.iter().all(|scope| seen.contains(scope)) {
            errors.push(Error::invalid(path, &json(&spec.scopes), "conflicting scopes"));
        }
    }
}

fn operator(wanted: &ScopedResourceSelectorRequirement, path: &Path, errors: &mut Errors) {
    let valueless = !matches!(wanted.scope_name.as_str(), "PriorityClass" | "VolumeAttributesClass");
    let operator = path.child("operator");
    if valueless && SCOPES.contains(&wanted.scope_name.as_str()) && wanted.operator != "Exists" {
        errors.push(Error::invalid(
            &operator,
            &wanted.operator,
            "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
             ResourceQuotaScopeCrossNamespacePodAffinity",
        ));
    }
    let count = wanted.values.as_ref().map_or(0, Vec::len);
    match (wanted.operator.as_str(), count) {
        ("In" | "NotIn", 0) => {
            let message = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(Error::required(&path.child("values"), message));
        }
        ("Exists" | "DoesNotExist", 1..) => {
            let message = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(Error::invalid(&path.child("values"), &json(&wanted.values), message));
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        (other, _) => errors.push(Error::invalid(&operator, other, "not a valid selector operator")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn made(changes: &[(&str, Value)]) -> ResourceQuota {
        let good = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "10", "requests.cpu": "1",
            "example.com/gpu": "2", "count/widgets.example.com": "1"}}});
        object(with(&good, changes))
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/hard", json!({"pods": "1.5"}), vec!["spec.hard[pods]: Invalid value: \"1.5\": must be an integer"]),
            (
                "/spec/hard",
                json!({"pods": "-1"}),
                vec!["spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                "/spec/hard",
                json!({"apples": "1"}),
                vec![
                    "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource type or fully qualified",
                    "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota",
                ],
            ),
            (
                "/spec/scopes",
                json!(["Sometimes"]),
                vec!["spec.scopes: Invalid value: [\"Sometimes\"]: unsupported scope"],
            ),
            (
                "/spec/scopes",
                json!(["BestEffort"]),
                vec!["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            (
                "/spec/scopes",
                json!(["Terminating", "NotTerminating"]),
                vec!["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
            ),
            (
                "/spec/scopeSelector",
                json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                vec![
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when \
                     `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
        ];
        assert_eq!(printed(resource_quota(&made(&[]))), Vec::<String>::new());
        for (pointer, value, expected) in table {
            assert_eq!(printed(resource_quota(&made(&[(pointer, value.clone())]))), expected, "{pointer} = {value}");
        }
    }

    #[test]
    fn scopes_never_change() {
        let scoped = made(&[("/spec/scopes", json!(["Terminating"]))]);
        assert_eq!(
            printed(resource_quota_update(&scoped, &made(&[]))),
            ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]
        );
    }
}
