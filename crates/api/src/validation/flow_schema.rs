//! FlowSchemas.

use std::collections::BTreeSet;

use base_meta::field::{Error, Path};
use base_meta::names;
use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};

use super::{Errors, normal, said, segments};
use crate::flowcontrol;

const MAX_PRECEDENCE: i32 = 10_000;
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub fn flow_schema(schema: &FlowSchema) -> Errors {
    let mut errors = Errors::new();
    let (name, path) = (said(&schema.metadata.name), Path::new("spec"));
    let none = FlowSchemaSpec::default();
    let given = schema.spec.as_ref().unwrap_or(&none);
    spec(name, given, &path, &mut errors);
    if let Some((_, fixed)) = flowcontrol::mandatory_schemas().into_iter().find(|(known, _)| *known == name) {
        let found = super::json(given);
        if normal(found.clone()) != normal(fixed) {
            errors.push(Error::invalid(&path, &found, format!("spec of '{name}' must equal the fixed value")));
        }
    }
    errors.extend(flow_schema_status(schema));
    errors
}

pub fn flow_schema_status(schema: &FlowSchema) -> Errors {
    let conditions = schema.status.iter().flat_map(|status| status.conditions.iter().flatten());
    condition_types(conditions.map(|condition| said(&condition.type_)))
}

/// Each type is there, once.
pub(super) fn condition_types<'a>(types: impl Iterator<Item = &'a str>) -> Errors {
    let mut errors = Errors::new();
    let mut known = BTreeSet::new();
    for (index, kind) in types.enumerate() {
        let path = Path::new("status").child("conditions").index(index).child("type");
        if !known.insert(kind) {
            errors.push(Error::duplicate(&path, kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&path, "must not be empty"));
        }
    }
    errors
}

fn spec(name: &str, spec: &FlowSchemaSpec, path: &Path, errors: &mut Errors) {
    let precedence = spec.matching_precedence.unwrap_or(0);
    let at = path.child("matchingPrecedence");
    if precedence <= 0 {
        errors.push(Error::invalid(&at, precedence, "must be a positive value"));
    }
    if precedence > MAX_PRECEDENCE {
        errors.push(Error::invalid(&at, precedence, format!("must not be greater than {MAX_PRECEDENCE}")));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(&at, precedence, detail));
    }
    if let Some(method) = &spec.distinguisher_method
        && !matches!(method.type_.as_str(), "ByUser" | "ByNamespace")
    {
        let path = path.child("distinguisherMethod").child("type");
        errors.push(Error::not_supported(&path, &super::json(method), &["ByNamespace", "ByUser"]));
    }
    let level = &spec.priority_level_configuration.name;
    let at = path.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        errors.push(Error::required(&at, "must reference a priority level"));
    } else {
        segments::subdomain(level, &at, errors);
    }
    for (index, each) in spec.rules.iter().flatten().enumerate() {
        rule(each, &path.child("rules").index(index), errors);
    }
}

fn rule(rule: &PolicyRulesWithSubjects, path: &Path, errors: &mut Errors) {
    if rule.subjects.is_empty() {
        errors.push(Error::required(&path.child("subjects"), "subjects must contain at least one value"));
    }
    for (index, each) in rule.subjects.iter().enumerate() {
        subject(each, &path.child("subjects").index(index), errors);
    }
    let resources = rule.resource_rules.as_deref().unwrap_or_default();
    let others = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, detail));
    }
    for (index, each) in resources.iter().enumerate() {
        resource_rule(each, &path.child("resourceRules").index(index), errors);
    }
    for (index, each) in others.iter().enumerate() {
        non_resource_rule(each, &path.child("nonResourceRules").index(index), errors);
    }
}

fn subject(subject: &Subject, path: &Path, errors: &mut Errors) {
    let kinds = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    let Some((kind, field, given)) = kinds.into_iter().find(|(kind, ..)| *kind == subject.kind) else {
        let path = path.child("kind");
        errors.push(Error::not_supported(&path, &subject.kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let at = path.child(field);
    if !given {
        errors.push(Error::required(&at, format!("{field} is required when subject kind is '{kind}'")));
    }
    if let Some(account) = subject.service_account.as_ref().filter(|_| kind == "ServiceAccount") {
        match account.name.as_str() {
            "" => errors.push(Error::required(&at.child("name"), "")),
            "*" => {}
            name => segments::subdomain(name, &at.child("name"), errors),
        }
        if account.namespace.is_empty() {
            errors.push(Error::required(&at.child("namespace"), "must specify namespace for service account"));
        } else {
            segments::label(&account.namespace, &at.child("namespace"), errors);
        }
    }
    let name = match kind {
        "User" => subject.user.as_ref().map(|user| &user.name),
        "Group" => subject.group.as_ref().map(|group| &group.name),
        _ => None,
    };
    if name.is_some_and(String::is_empty) {
        errors.push(Error::required(&at.child("name"), ""));
    }
    for (other, field, _) in kinds.into_iter().filter(|(other, _, given)| *other != kind && *given) {
        let detail = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(Error::forbidden(&path.child(field), detail));
    }
}

fn everything(list: &[String]) -> bool {
    list.iter().any(|item| item == "*")
}

/// A list that says `*` says nothing else.
fn alone(list: &[String], path: &Path, what: &str, errors: &mut Errors) {
    if list.len() > 1 && everything(list) {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.push(Error::invalid(path, &super::json(&list), detail));
    }
}

fn verbs(list: &[String], path: &Path, errors: &mut Errors) {
    let path = path.child("verbs");
    if list.is_empty() {
        errors.push(Error::required(&path, "verbs must contain at least one value"));
    } else if everything(list) {
        alone(list, &path, "verbs", errors);
    } else if list.iter().any(|verb| !VERBS.contains(&verb.as_str())) {
        errors.push(Error::not_supported(&path, &super::json(&list), VERBS));
    }
}

fn resource_rule(rule: &ResourcePolicyRule, path: &Path, errors: &mut Errors) {
    verbs(&rule.verbs, path, errors);
    let lists = [
        ("apiGroups", &rule.api_groups, "api group", "api groups"),
        ("resources", &rule.resources, "resource", "resources"),
    ];
    for (field, list, one, many) in lists {
        let path = path.child(field);
        if list.is_empty() {
            errors.push(Error::required(&path, format!("resource rules must supply at least one {one}")));
        }
        alone(list, &path, many, errors);
    }
    let namespaces = rule.namespaces.as_deref().unwrap_or_default();
    let path = path.child("namespaces");
    if namespaces.is_empty() && rule.cluster_scope != Some(true) {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&path, detail));
    } else if everything(namespaces) {
        alone(namespaces, &path, "namespaces", errors);
    } else {
        for (index, namespace) in namespaces.iter().enumerate() {
            for problem in names::dns1123_label(namespace) {
                let detail = format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
                errors.push(Error::invalid(&path.index(index), namespace, detail));
            }
        }
    }
}

fn non_resource_rule(rule: &NonResourcePolicyRule, path: &Path, errors: &mut Errors) {
    verbs(&rule.verbs, path, errors);
    let path = path.child("nonResourceURLs");
    let urls = &rule.non_resource_urls;
    if urls.is_empty() {
        errors.push(Error::required(&path, "nonResourceURLs must contain at least one value"));
    } else if everything(urls) {
        alone(urls, &path, "non-resource URLs", errors);
    } else {
        for (index, url) in urls.iter().enumerate() {
            if let Some(problem) = bad_url(url) {
                errors.push(Error::invalid(&path.index(index), url, problem));
            }
        }
    }
}

fn bad_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{object, printed, with};
    use super::*;

    #[test]
    fn each_rule_names_its_field() {
        let base = json!({"metadata": {"name": "a"}, "spec": {"matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": "exempt"}, "distinguisherMethod": {"type": "ByUser"}, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz/*"]}]}]}});
        let table = [
            ("matchingPrecedence", json!(-1), "matchingPrecedence: Invalid value: -1: must be a positive value"),
            ("matchingPrecedence", json!(1), "matchingPrecedence: Invalid value: 1: only the schema named 'exempt'"),
            ("matchingPrecedence", json!(10_001), "matchingPrecedence: Invalid value: 10001: must not be greater"),
            ("distinguisherMethod/type", json!("X"), "distinguisherMethod.type: Unsupported value"),
            ("priorityLevelConfiguration/name", json!(""), "priorityLevelConfiguration.name: Required value: must"),
            ("rules/0/subjects", json!([]), "rules[0].subjects: Required value: subjects must contain"),
            ("rules/0/subjects/0/kind", json!("X"), "rules[0].subjects[0].kind: Unsupported value: \"X\""),
            ("rules/0/subjects/0/group", json!({"name": "g"}), "rules[0].subjects[0].group: Forbidden: group is"),
            ("rules/0/subjects/0/user", Value::Null, "rules[0].subjects[0].user: Required value: user is required"),
            ("rules/0/resourceRules/0/verbs", json!(["x"]), "rules[0].resourceRules[0].verbs: Unsupported value"),
            ("rules/0/resourceRules/0/apiGroups", json!(["*", "a"]), "rules[0].resourceRules[0].apiGroups: Invalid"),
            ("rules/0/resourceRules/0/namespaces", json!([]), "rules[0].resourceRules[0].namespaces: Required value"),
            (
                "rules/0/nonResourceRules/0/nonResourceURLs",
                json!(["/a*"]),
                "rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do",
            ),
        ];
        assert!(flow_schema(&object(base.clone())).is_empty());
        for (pointer, value, expected) in table {
            let found = printed(flow_schema(&object(with(&base, &[(&format!("/spec/{pointer}"), value)]))));
            assert!(found.len() == 1 && found[0].starts_with(&format!("spec.{expected}")), "{pointer}: {found:?}");
        }
        let twice = with(&base, &[("/status", json!({"conditions": [{"type": "A"}, {"type": "A"}, {}]}))]);
        assert_eq!(flow_schema_status(&object(twice)).len(), 2);
    }

    #[test]
    fn what_every_cluster_has_is_valid_and_the_mandatory_stays() {
        let all = flowcontrol::mandatory_schemas().into_iter().chain(flowcontrol::suggested_schemas());
        for (name, spec) in all {
            let made: FlowSchema = object(json!({"metadata": {"name": name}, "spec": spec}));
            assert_eq!(printed(flow_schema(&made)), [""; 0], "{name}");
        }
        let (name, mut spec) = flowcontrol::mandatory_schemas().remove(0);
        spec["matchingPrecedence"] = json!(2);
        let found = printed(flow_schema(&object(json!({"metadata": {"name": name}, "spec": spec}))));
        assert!(found.len() == 1 && found[0].ends_with("spec of 'exempt' must equal the fixed value"), "{found:?}");
    }
}
