//! What webhooks and admission policies share: which requests they are about, and conditions in CEL. Expressions are
//! checked for being there alone: this crate does not know their language.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, NamedRuleWithOperations, RuleWithOperations};

use super::{Errors, segments};

const MAX_CONDITIONS: usize = 64;
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// A value of a fixed set; absent is for the caller to judge.
pub(super) fn one_of(value: Option<&str>, supported: &[&str], path: &Path, errors: &mut Errors) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        errors.push(Error::not_supported(path, value, supported));
    }
}

/// The rule of either type, borrowed.
pub(super) struct Rule<'a> {
    pub operations: Option<&'a Vec<String>>,
    pub groups: Option<&'a Vec<String>>,
    pub versions: Option<&'a Vec<String>>,
    pub resources: Option<&'a Vec<String>>,
    pub scope: Option<&'a str>,
}

impl<'a> From<&'a RuleWithOperations> for Rule<'a> {
    fn from(rule: &'a RuleWithOperations) -> Self {
        Self {
            operations: rule.operations.as_ref(),
            groups: rule.api_groups.as_ref(),
            versions: rule.api_versions.as_ref(),
            resources: rule.resources.as_ref(),
            scope: rule.scope.as_deref(),
        }
    }
}

impl<'a> From<&'a NamedRuleWithOperations> for Rule<'a> {
    fn from(rule: &'a NamedRuleWithOperations) -> Self {
        Self {
            operations: rule.operations.as_ref(),
            groups: rule.api_groups.as_ref(),
            versions: rule.api_versions.as_ref(),
            resources: rule.resources.as_ref(),
            scope: rule.scope.as_deref(),
        }
    }
}

/// A list that is not empty and says nothing beside `*`.
fn list<'a>(list: Option<&'a Vec<String>>, path: &Path, what: &str, errors: &mut Errors) -> &'a [String] {
    let list = list.map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if list.len() > 1 && list.iter().any(|item| item == "*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(Error::invalid(path, &super::json(&list), detail));
    }
    list
}

pub(super) fn rule(rule: &Rule<'_>, path: &Path, errors: &mut Errors) {
    let at = path.child("operations");
    for (index, operation) in list(rule.operations, &at, "operations", errors).iter().enumerate() {
        one_of(Some(operation), OPERATIONS, &at.index(index), errors);
    }
    list(rule.groups, &path.child("apiGroups"), "API groups", errors);
    let at = path.child("apiVersions");
    for (index, version) in list(rule.versions, &at, "API versions", errors).iter().enumerate() {
        if version.is_empty() {
            errors.push(Error::required(&at.index(index), ""));
        }
    }
    resources(rule.resources.map(Vec::as_slice).unwrap_or_default(), &path.child("resources"), errors);
    one_of(rule.scope, SCOPES, &path.child("scope"), errors);
}

/// `resource`, `resource/subresource`, and `*` for either part.
fn resources(list: &[String], path: &Path, errors: &mut Errors) {
    if list.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut all_subresources, mut all_resources) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (index, item) in list.iter().enumerate() {
        let at = path.index(index);
        if item.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let Some((resource, subresource)) = item.split_once('/') else {
            plain = item != "*";
            continue;
        };
        if all_subresources.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {item}");
            errors.push(Error::invalid(&at, item, detail));
        }
        if all_resources.contains(subresource) {
            let detail = format!("if '*/{subresource}' is present, must not specify {item}");
            errors.push(Error::invalid(&at, item, detail));
        }
        if subresource == "*" {
            all_subresources.insert(resource);
        }
        if resource == "*" {
            all_resources.insert(subresource);
        }
    }
    let has = |text: &str| list.iter().any(|item| item == text);
    if list.len() > 1 && has("*/*") {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, &super::json(&list), detail));
    }
    if has("*") && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, &super::json(&list), detail));
    }
}

pub(super) fn match_conditions(conditions: Option<&[MatchCondition]>, path: &Path, errors: &mut Errors) {
    let conditions = conditions.unwrap_or_default();
    super::device::fits(conditions, MAX_CONDITIONS, path, errors);
    let mut known = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if condition.expression.trim().is_empty() {
            errors.push(Error::required(&path.child("expression"), ""));
        }
        let at = path.child("name");
        if condition.name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else {
            segments::qualified(&condition.name, &at, errors);
            if !known.insert(&condition.name) {
                errors.push(Error::duplicate(&at, &condition.name));
            }
        }
    }
}
