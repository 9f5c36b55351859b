//! `rbac.authorization.k8s.io/v1`: upstream's `pkg/apis/rbac/validation`.

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use super::{Errors, formats, json, labels, said};
use crate::rbac::GROUP;

pub fn role(role: &Role) -> Errors {
    rules(role.rules.as_deref(), true)
}

pub fn cluster_role(role: &ClusterRole) -> Errors {
    let mut errors = rules(role.rules.as_deref(), false);
    if let Some(aggregation) = &role.aggregation_rule {
        let path = Path::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            errors.push(Error::required(
                &path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            ));
        }
        for (index, selector) in selectors.iter().enumerate() {
            labels::selector(selector, &path.index(index), &mut errors);
        }
    }
    errors
}

fn rules(rules: Option<&[PolicyRule]>, namespaced: bool) -> Errors {
    let mut errors = Errors::new();
    for (index, rule) in rules.into_iter().flatten().enumerate() {
        policy_rule(rule, namespaced, &Path::new("rules").index(index), &mut errors);
    }
    errors
}

fn policy_rule(rule: &PolicyRule, namespaced: bool, path: &Path, errors: &mut Errors) {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if rule.verbs.is_empty() {
        errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
    }
    if !empty(&rule.non_resource_urls) {
        let urls = json(&rule.non_resource_urls);
        let path = path.child("nonResourceURLs");
        if namespaced {
            errors.push(Error::invalid(&path, &urls, "namespaced rules cannot apply to non-resource URLs"));
        }
        if !empty(&rule.api_groups) || !empty(&rule.resources) || !empty(&rule.resource_names) {
            let problem = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&path, &urls, problem));
        }
        return;
    }
    if empty(&rule.api_groups) {
        errors.push(Error::required(&path.child("apiGroups"), "resource rules must supply at least one api group"));
    }
    if empty(&rule.resources) {
        errors.push(Error::required(&path.child("resources"), "resource rules must supply at least one resource"));
    }
}

pub fn role_binding(binding: &RoleBinding) -> Errors {
    let mut errors = role_ref(&binding.role_ref, &["ClusterRole", "Role"]);
    subjects(binding.subjects.as_deref(), true, &mut errors);
    errors
}

pub fn role_binding_update(new: &RoleBinding, old: &RoleBinding) -> Errors {
    let mut errors = role_binding(new);
    unchanged(&new.role_ref, &old.role_ref, &mut errors);
    errors
}

pub fn cluster_role_binding(binding: &ClusterRoleBinding) -> Errors {
    let mut errors = role_ref(&binding.role_ref, &["ClusterRole"]);
    subjects(binding.subjects.as_deref(), false, &mut errors);
    errors
}

pub fn cluster_role_binding_update(new: &ClusterRoleBinding, old: &ClusterRoleBinding) -> Errors {
    let mut errors = cluster_role_binding(new);
    unchanged(&new.role_ref, &old.role_ref, &mut errors);
    errors
}

/// A binding stays what it grants: a wider role is another binding, made by who may.
fn unchanged(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        errors.push(Error::invalid(&Path::new("roleRef"), &json(new), "cannot change roleRef"));
    }
}

fn role_ref(role: &RoleRef, kinds: &[&str]) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("roleRef");
    let group = said(&role.api_group);
    if group != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(Error::not_supported(&path.child("kind"), &role.kind, kinds));
    }
    let path = path.child("name");
    if role.name.is_empty() {
        errors.push(Error::required(&path, ""));
    } else {
        formats::invalid(&path, &role.name, names::path_segment(&role.name), &mut errors);
    }
    errors
}

fn subjects(subjects: Option<&[Subject]>, namespaced: bool, errors: &mut Errors) {
    for (index, subject) in subjects.into_iter().flatten().enumerate() {
        subject_of(subject, namespaced, &Path::new("subjects").index(index), errors);
    }
}

fn subject_of(subject: &Subject, namespaced: bool, path: &Path, errors: &mut Errors) {
    if subject.name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let group = said(&subject.api_group);
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                let problems = names::dns1123_subdomain(&subject.name);
                formats::invalid(&path.child("name"), &subject.name, problems, errors);
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && said(&subject.namespace).is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            let kinds = ["Group", "ServiceAccount", "User"];
            errors.push(Error::not_supported(&path.child("kind"), other, &kinds));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    /// What is changed in a good object, and what is then said of it.
    type Case<'a> = (&'a [(&'a str, Value)], &'a [&'a str]);

    #[test]
    fn roles() {
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        let base = json!({"metadata": {"name": "r"}, "rules": [rule]});
        let table: &[Case<'_>] = &[
            (&[], &[]),
            (
                &[("/rules/0/verbs", json!([]))],
                &["rules[0].verbs: Required value: verbs must contain at least one value"],
            ),
            (
                &[("/rules/0/apiGroups", json!([])), ("/rules/0/resources", Value::Null)],
                &[
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            (
                &[("/rules/0/nonResourceURLs", json!(["/x"]))],
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
                ],
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(printed(role(&object(with(&base, changes)))), *expected, "{changes:?}");
        }
        let paths = json!({"metadata": {}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        assert_eq!(printed(cluster_role(&object(paths))), [""; 0]);
        let aggregating = json!({"metadata": {}, "aggregationRule": {"clusterRoleSelectors": []}});
        assert_eq!(
            printed(cluster_role(&object(aggregating))),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
    }

    #[test]
    fn bindings() {
        let base = json!({"metadata": {"name": "b"},
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "apiGroup": GROUP, "name": "jane"}, {"kind": "ServiceAccount", "name": "s"}]});
        let table: &[Case<'_>] = &[
            (&[], &[]),
            (
                &[("/roleRef/kind", json!("Pod")), ("/roleRef/name", json!("a/b"))],
                &[
                    "roleRef.kind: Unsupported value: \"Pod\": supported values: \"ClusterRole\", \"Role\"",
                    "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
                ],
            ),
            (
                &[("/subjects/0/apiGroup", json!("x")), ("/subjects/1/name", json!("S"))],
                &[
                    "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                    "subjects[1].name: Invalid value: \"S\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
            (
                &[("/subjects/0/kind", json!("Pod"))],
                &[
                    "subjects[0].kind: Unsupported value: \"Pod\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
                ],
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(printed(role_binding(&object(with(&base, changes)))), *expected, "{changes:?}");
        }
        let cluster = printed(cluster_role_binding(&object(base.clone())));
        assert_eq!(
            cluster,
            [
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[1].namespace: Required value",
            ]
        );
        let other = object(with(&base, &[("/roleRef/name", json!("other"))]));
        assert_eq!(
            printed(role_binding_update(&other, &object(base))),
            [
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"other\"}: cannot change roleRef"
            ]
        );
    }
}
