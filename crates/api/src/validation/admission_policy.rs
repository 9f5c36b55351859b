//! Admission policies and their bindings. Expressions are checked for being there and for their size: this
//! crate does not know their language.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, Mutation,
    NamedRuleWithOperations, ParamKind, ParamRef, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    Validation, Variable,
};

use super::admission_rules::{self, one_of};
use super::webhook::{FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use super::{Errors, labels, said, segments};

const MAX_ANNOTATIONS: usize = 20;
/// Of an audit annotation's expression, in bytes.
const MAX_ANNOTATION: usize = 5 * 1024;
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];

pub fn validating(policy: &ValidatingAdmissionPolicy) -> Errors {
    let mut errors = Errors::new();
    let none = Default::default();
    let (path, spec) = (Path::new("spec"), policy.spec.as_ref().unwrap_or(&none));
    required(spec.failure_policy.as_deref(), FAILURE_POLICIES, &path.child("failurePolicy"), &mut errors);
    if let Some(kind) = &spec.param_kind {
        param_kind(kind, &path.child("paramKind"), &mut errors);
    }
    constraints(spec.match_constraints.as_ref(), &path, &mut errors);
    let at = path.child("matchConditions");
    admission_rules::match_conditions(spec.match_conditions.as_deref(), &at, &mut errors);
    variables(spec.variables.as_deref(), &path, &mut errors);
    let validations = spec.validations.as_deref().unwrap_or_default();
    let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(Error::required(&path.child("validations"), detail));
        errors.push(Error::required(&path.child("auditAnnotations"), detail));
    }
    for (index, each) in validations.iter().enumerate() {
        validation(each, &path.child("validations").index(index), &mut errors);
    }
    let at = path.child("auditAnnotations");
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(Error::invalid(&at, &super::json(&annotations), detail));
    }
    let mut known = BTreeSet::new();
    for (index, each) in annotations.iter().enumerate() {
        annotation(each, said(&policy.metadata.name), &at.index(index), &mut errors);
        if !known.insert(&each.key) {
            errors.push(Error::duplicate(&at.index(index).child("key"), &each.key));
        }
    }
    errors
}

pub fn validating_status(policy: &ValidatingAdmissionPolicy) -> Errors {
    let mut errors = Errors::new();
    let checked = policy.status.as_ref().and_then(|status| status.type_checking.as_ref());
    let warnings = checked.and_then(|checked| checked.expression_warnings.as_deref()).unwrap_or_default();
    let path = Path::new("status").child("typeChecking").child("expressionWarnings");
    for (index, warning) in warnings.iter().enumerate() {
        for (field, text) in [("warning", warning.warning.as_str()), ("fieldRef", warning.field_ref.trim())] {
            if text.is_empty() {
                errors.push(Error::required(&path.index(index).child(field), ""));
            }
        }
    }
    errors
}

pub fn mutating(policy: &MutatingAdmissionPolicy) -> Errors {
    let mut errors = Errors::new();
    let none = Default::default();
    let (path, spec) = (Path::new("spec"), policy.spec.as_ref().unwrap_or(&none));
    required(spec.failure_policy.as_deref(), FAILURE_POLICIES, &path.child("failurePolicy"), &mut errors);
    if let Some(kind) = &spec.param_kind {
        param_kind(kind, &path.child("paramKind"), &mut errors);
    }
    constraints(spec.match_constraints.as_ref(), &path, &mut errors);
    let at = path.child("matchConditions");
    admission_rules::match_conditions(spec.match_conditions.as_deref(), &at, &mut errors);
    variables(spec.variables.as_deref(), &path, &mut errors);
    let mutations = spec.mutations.as_deref().unwrap_or_default();
    if mutations.is_empty() {
        errors.push(Error::required(&path.child("mutations"), "mutations must contain at least one item"));
    }
    for (index, each) in mutations.iter().enumerate() {
        mutation(each, &path.child("mutations").index(index), &mut errors);
    }
    required(
        spec.reinvocation_policy.as_deref().filter(|policy| !policy.is_empty()),
        REINVOCATION_POLICIES,
        &path.child("reinvocationPolicy"),
        &mut errors,
    );
    errors
}

pub fn validating_binding(binding: &ValidatingAdmissionPolicyBinding) -> Errors {
    let mut errors = Errors::new();
    let (path, spec) = (Path::new("spec"), &binding.spec);
    policy_name(&spec.policy_name, &path, &mut errors);
    param_ref(spec.param_ref.as_ref(), &path.child("paramRef"), &mut errors);
    // Upstream misspells it.
    resources(spec.match_resources.as_ref(), &path.child("matchResouces"), &mut errors);
    let (actions, path) = (&spec.validation_actions, path.child("validationActions"));
    let mut known = BTreeSet::new();
    for (index, action) in actions.iter().enumerate() {
        one_of(Some(action), &["Audit", "Deny", "Warn"], &path.index(index), &mut errors);
        if !known.insert(action.as_str()) {
            errors.push(Error::duplicate(&path.index(index), action));
        }
    }
    if known.contains("Deny") && known.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Error::invalid(&path, &super::json(actions), detail));
    }
    if actions.is_empty() {
        errors.push(Error::required(&path, "at least one validation action is required"));
    }
    errors
}

pub fn mutating_binding(binding: &MutatingAdmissionPolicyBinding) -> Errors {
    let mut errors = Errors::new();
    let none = Default::default();
    let (path, spec) = (Path::new("spec"), binding.spec.as_ref().unwrap_or(&none));
    policy_name(said(&spec.policy_name), &path, &mut errors);
    param_ref(spec.param_ref.as_ref(), &path.child("paramRef"), &mut errors);
    resources(spec.match_resources.as_ref(), &path.child("matchResouces"), &mut errors);
    errors
}

fn required(value: Option<&str>, supported: &[&str], path: &Path, errors: &mut Errors) {
    match value {
        None => errors.push(Error::required(path, "")),
        value => one_of(value, supported, path, errors),
    }
}

fn policy_name(name: &str, path: &Path, errors: &mut Errors) {
    let path = path.child("policyName");
    if name.is_empty() {
        errors.push(Error::required(&path, ""));
    } else {
        segments::subdomain(name, &path, errors);
    }
}

/// A policy says what it is about: without a rule its expressions have no type.
fn constraints(constraints: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    let path = path.child("matchConstraints");
    let Some(constraints) = constraints else {
        errors.push(Error::required(&path, ""));
        return;
    };
    resources(Some(constraints), &path, errors);
    if constraints.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        errors.push(Error::required(&path.child("resourceRules"), ""));
    }
}

fn resources(resources: Option<&MatchResources>, path: &Path, errors: &mut Errors) {
    let Some(resources) = resources else { return };
    required(resources.match_policy.as_deref(), MATCH_POLICIES, &path.child("matchPolicy"), errors);
    for (field, selector) in
        [("namespaceSelector", &resources.namespace_selector), ("objectSelector", &resources.object_selector)]
    {
        match selector {
            None => errors.push(Error::required(&path.child(field), "")),
            Some(selector) => labels::selector(selector, &path.child(field), errors),
        }
    }
    for (field, rules) in
        [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)]
    {
        for (index, rule) in rules.iter().flatten().enumerate() {
            named_rule(rule, &path.child(field).index(index), errors);
        }
    }
}

fn named_rule(rule: &NamedRuleWithOperations, path: &Path, errors: &mut Errors) {
    let mut known = BTreeSet::new();
    for (index, name) in rule.resource_names.iter().flatten().enumerate() {
        let path = path.child("resourceNames").index(index);
        super::formats::invalid(&path, name, segments::path_segment(name), errors);
        if !known.insert(name) {
            errors.push(Error::duplicate(&path, name));
        }
    }
    admission_rules::rule(&rule.into(), path, errors);
}

fn param_kind(kind: &ParamKind, path: &Path, errors: &mut Errors) {
    let (version, at) = (said(&kind.api_version), path.child("apiVersion"));
    match version.split('/').collect::<Vec<_>>()[..] {
        [""] => errors.push(Error::required(&at, "")),
        [version] => group_version("", version, &at, errors),
        [group, version] => group_version(group, version, &at, errors),
        _ => errors.push(Error::invalid(&at, version, format!("unexpected GroupVersion string: {version}"))),
    }
    let (kind, at) = (said(&kind.kind), path.child("kind"));
    if kind.is_empty() {
        errors.push(Error::required(&at, ""));
        return;
    }
    let problems = names::dns1035_label(&kind.to_lowercase());
    if !problems.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", problems.join(","));
        errors.push(Error::invalid(&at, kind, detail));
    }
}

fn group_version(group: &str, version: &str, path: &Path, errors: &mut Errors) {
    let mut one = |value: &str, problems: Vec<String>| {
        if !problems.is_empty() {
            errors.push(Error::invalid(path, value, problems.join(",")));
        }
    };
    if !group.is_empty() {
        one(group, names::dns1123_subdomain(group));
    }
    if version.is_empty() {
        one(&format!("{group}/{version}"), vec!["version must be specified".to_owned()]);
    } else {
        one(version, names::dns1035_label(version));
    }
}

fn param_ref(reference: Option<&ParamRef>, path: &Path, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let Some(reference) = reference else { return };
    let name = said(&reference.name);
    let at = path.child("name");
    super::formats::invalid(&at, name, segments::path_segment(name), errors);
    match (&reference.selector, name.is_empty()) {
        (Some(selector), empty) => {
            if !empty {
                errors.push(Error::forbidden(&at, EXCLUSIVE));
            }
            labels::selector(selector, &path.child("selector"), errors);
            if !empty {
                errors.push(Error::forbidden(&path.child("selector"), EXCLUSIVE));
            }
        }
        (None, true) => errors.push(Error::required(path, "one of name or selector must be specified")),
        (None, false) => {}
    }
    required(
        reference.parameter_not_found_action.as_deref().filter(|action| !action.is_empty()),
        &["Deny", "Allow"],
        &path.child("parameterNotFoundAction"),
        errors,
    );
}

fn variables(variables: Option<&[Variable]>, path: &Path, errors: &mut Errors) {
    for (index, variable) in variables.into_iter().flatten().enumerate() {
        let path = path.child("variables").index(index);
        if variable.name.trim().is_empty() {
            errors.push(Error::required(&path.child("name"), "name is not specified"));
        } else if !is_identifier(&variable.name) {
            let detail = "name is not a valid CEL identifier";
            errors.push(Error::invalid(&path.child("name"), &variable.name, detail));
        }
        if variable.expression.trim().is_empty() {
            errors.push(Error::required(&path.child("expression"), "expression is not specified"));
        }
    }
}

/// Words that CEL keeps for itself.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

fn is_identifier(name: &str) -> bool {
    let start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(start)
        && name.bytes().all(|byte| start(byte) || byte.is_ascii_digit())
        && !RESERVED.contains(&name)
}

fn validation(validation: &Validation, path: &Path, errors: &mut Errors) {
    if validation.expression.trim().is_empty() {
        errors.push(Error::required(&path.child("expression"), "expression is not specified"));
    }
    let blank = |text: &str| !text.is_empty() && text.trim().is_empty();
    let expression = said(&validation.message_expression);
    if blank(expression) {
        let path = path.child("messageExpression");
        errors.push(Error::invalid(&path, expression, "must be non-empty if specified"));
    }
    let message = said(&validation.message);
    if blank(message) {
        errors.push(Error::invalid(&path.child("message"), message, "message must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(Error::invalid(&path.child("message"), message, "message must not contain line breaks"));
    }
    one_of(validation.reason.as_deref(), REASONS, &path.child("reason"), errors);
}

fn annotation(annotation: &AuditAnnotation, policy: &str, path: &Path, errors: &mut Errors) {
    let at = path.child("key");
    if policy.is_empty() {
        errors.push(Error::invalid(&at, &annotation.key, "requires metadata.name be non-empty"));
    } else {
        segments::qualified(&format!("{policy}/{}", annotation.key), &at, errors);
    }
    let (expression, at) = (annotation.value_expression.trim(), path.child("valueExpression"));
    if expression.is_empty() {
        errors.push(Error::required(&at, "valueExpression is not specified"));
    } else if expression.len() > MAX_ANNOTATION {
        errors.push(Error::required(&at, format!("must not exceed {MAX_ANNOTATION} bytes in length")));
    }
}

fn mutation(mutation: &Mutation, path: &Path, errors: &mut Errors) {
    let forms = [
        ("ApplyConfiguration", "applyConfiguration", mutation.apply_configuration.as_ref().map(|c| &c.expression)),
        ("JSONPatch", "jsonPatch", mutation.json_patch.as_ref().map(|c| &c.expression)),
    ];
    if mutation.patch_type.is_empty() {
        errors.push(Error::required(&path.child("patchType"), ""));
        return;
    }
    one_of(Some(&mutation.patch_type), &["ApplyConfiguration", "JSONPatch"], &path.child("patchType"), errors);
    for (kind, field, expression) in forms {
        let at = path.child(field);
        match expression {
            None if kind == mutation.patch_type => {
                errors.push(Error::required(&at, format!("must be specified when patchType is {kind}")));
            }
            Some(expression) if kind == mutation.patch_type && said(expression).trim().is_empty() => {
                errors.push(Error::required(&at.child("expression"), "expression is not specified"));
            }
            Some(_) if kind != mutation.patch_type => {
                errors.push(Error::forbidden(
                    &at,
                    format!("may not be specified when patchType is {}", mutation.patch_type),
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    fn constraints() -> Value {
        json!({"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
    }

    #[test]
    fn each_rule_of_a_policy_names_its_field() {
        let base = json!({"metadata": {"name": "p.example"}, "spec": {"matchConstraints": constraints(),
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "variables": [{"name": "a", "expression": "1"}],
            "validations": [{"expression": "true", "message": "m"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "'a'"}]}});
        let made = |changes: &[(&str, Value)]| -> ValidatingAdmissionPolicy {
            let mut made = object(with(&base, changes));
            crate::defaults::validating_policy(&mut made);
            made
        };
        let table = [
            ("failurePolicy", json!("X"), "failurePolicy: Unsupported value: \"X\""),
            ("matchConstraints", Value::Null, "matchConstraints: Required value"),
            ("matchConstraints/resourceRules", json!([]), "matchConstraints.resourceRules: Required value"),
            (
                "matchConstraints/resourceRules/0/resourceNames",
                json!(["a", "a"]),
                "matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"a\"",
            ),
            (
                "paramKind/apiVersion",
                json!("a/b/c"),
                "paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected Group",
            ),
            ("paramKind/kind", json!(""), "paramKind.kind: Required value"),
            ("variables/0/name", json!("in"), "variables[0].name: Invalid value: \"in\": name is not a valid CEL"),
            ("validations/0/expression", json!(" "), "validations[0].expression: Required value: expression is not"),
            (
                "validations/0/message",
                json!("a\nb"),
                "validations[0].message: Invalid value: \"a\\nb\": message must not",
            ),
            ("validations/0/reason", json!("X"), "validations[0].reason: Unsupported value: \"X\""),
            ("auditAnnotations/0/key", json!("a b"), "auditAnnotations[0].key: Invalid value: \"p.example/a b\""),
            ("auditAnnotations/0/valueExpression", json!(""), "auditAnnotations[0].valueExpression: Required value"),
        ];
        assert_eq!(printed(validating(&made(&[]))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(validating(&made(&[(&format!("/spec/{pointer}"), value)])));
            assert!(found.len() == 1 && found[0].starts_with(&format!("spec.{expected}")), "{pointer}: {found:?}");
        }
        let none = made(&[("/spec/validations", json!([])), ("/spec/auditAnnotations", json!([]))]);
        assert_eq!(validating(&none).len(), 2);
    }

    #[test]
    fn warnings_say_what_and_where() {
        let warned = |warning: Value| {
            validating_status(&object(json!({"status": {"typeChecking": {"expressionWarnings": [warning]}}})))
        };
        assert_eq!(printed(warned(json!({"fieldRef": "spec.validations[0].expression", "warning": "w"}))), [""; 0]);
        assert_eq!(
            printed(warned(json!({"fieldRef": " ", "warning": ""}))),
            [
                "status.typeChecking.expressionWarnings[0].warning: Required value",
                "status.typeChecking.expressionWarnings[0].fieldRef: Required value"
            ]
        );
    }

    #[test]
    fn mutations() {
        let base = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints(),
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}});
        let table = [
            ("reinvocationPolicy", json!(""), "reinvocationPolicy: Required value"),
            ("mutations", json!([]), "mutations: Required value: mutations must contain at least one item"),
            ("mutations/0/patchType", json!(""), "mutations[0].patchType: Required value"),
            ("mutations/0/jsonPatch", Value::Null, "mutations[0].jsonPatch: Required value"),
            ("mutations/0/applyConfiguration", json!({}), "mutations[0].applyConfiguration: Forbidden"),
        ];
        let made = |changes: &[(&str, Value)]| -> MutatingAdmissionPolicy {
            let mut made = object(with(&base, changes));
            crate::defaults::mutating_policy(&mut made);
            made
        };
        assert_eq!(printed(mutating(&made(&[]))), [""; 0]);
        for (pointer, value, expected) in table {
            let found = printed(mutating(&made(&[(&format!("/spec/{pointer}"), value)])));
            assert!(found.len() == 1 && found[0].starts_with(&format!("spec.{expected}")), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn bindings() {
        let binding = |spec: Value| -> ValidatingAdmissionPolicyBinding { object(json!({"spec": spec})) };
        let good = json!({"policyName": "p", "validationActions": ["Deny"],
            "paramRef": {"name": "a", "parameterNotFoundAction": "Deny"}});
        assert_eq!(printed(validating_binding(&binding(good.clone()))), [""; 0]);
        for (pointer, value, expected) in [
            ("/policyName", json!(""), "spec.policyName: Required value"),
            ("/validationActions", json!([]), "spec.validationActions: Required value: at least one"),
            ("/validationActions", json!(["X"]), "spec.validationActions[0]: Unsupported value: \"X\""),
            (
                "/validationActions",
                json!(["Deny", "Warn"]),
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]",
            ),
            ("/paramRef/name", json!(""), "spec.paramRef: Required value: one of name or selector must be specified"),
            ("/paramRef/parameterNotFoundAction", json!(""), "spec.paramRef.parameterNotFoundAction: Required value"),
        ] {
            let found = printed(validating_binding(&binding(with(&good, &[(pointer, value)]))));
            assert!(found.len() == 1 && found[0].starts_with(expected), "{pointer}: {found:?}");
        }
        let both = with(&good, &[("/paramRef/selector", json!({}))]);
        assert_eq!(validating_binding(&binding(both)).len(), 2);
        assert_eq!(mutating_binding(&object(json!({"spec": {}}))).len(), 1);
    }
}
