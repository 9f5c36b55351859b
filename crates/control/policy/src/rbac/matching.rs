//! Whether one rule allows one request. On every request's path: compares in place and allocates nothing.

use k8s_openapi::api::rbac::v1::PolicyRule;
use machinery_apiserver::Action;

const ALL: &str = "*";

pub(super) fn allows(rule: &PolicyRule, verb: &str, action: &Action<'_>) -> bool {
    if !has(Some(&rule.verbs), verb) {
        return false;
    }
    match action {
        Action::Resource { group, resource, subresource, name, .. } => {
            has(rule.api_groups.as_ref(), group)
                && each(rule.resources.as_ref()).any(|pattern| resource_fits(pattern, resource, subresource))
                && names_fit(rule.resource_names.as_deref().unwrap_or_default(), name)
        }
        Action::Path(path) => each(rule.non_resource_urls.as_ref()).any(|pattern| path_fits(pattern, path)),
    }
}

/// `*`, `pods`, `pods/status`, or `*/status`: that subresource of every resource.
fn resource_fits(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == ALL {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == ALL || of == resource),
    }
}

/// A rule that names objects allows nothing of a collection, whose name is empty.
fn names_fit(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|allowed| allowed == name)
}

/// One that ends in `*` stands for all that begin so.
pub(super) fn path_fits(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// Whether the list has `wanted`, or stands for everything.
pub(super) fn has(list: Option<&Vec<String>>, wanted: &str) -> bool {
    each(list).any(|each| each == ALL || each == wanted)
}

pub(super) fn each(list: Option<&Vec<String>>) -> impl Iterator<Item = &str> {
    list.into_iter().flatten().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> PolicyRule {
        serde_json::from_value(value).expect("a rule")
    }

    #[test]
    fn resources() {
        let action = |resource: &'static str, name: &'static str| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            Action::Resource { group: "apps", version: "v1", resource, subresource, namespace: "a", name }
        };
        // groups, resources, names, verb, asked, name, allowed
        let table = [
            (json!(["apps"]), json!(["deployments"]), json!([]), "get", "deployments", "x", true),
            (json!([""]), json!(["deployments"]), json!([]), "get", "deployments", "x", false),
            (json!(["*"]), json!(["*"]), json!([]), "get", "deployments/scale", "x", true),
            (json!(["*"]), json!(["deployments"]), json!([]), "get", "deployments/scale", "x", false),
            (json!(["*"]), json!(["deployments/scale"]), json!([]), "get", "deployments/scale", "x", true),
            (json!(["*"]), json!(["*/scale"]), json!([]), "get", "deployments/scale", "x", true),
            (json!(["*"]), json!(["*/scale"]), json!([]), "get", "deployments/status", "x", false),
            (json!(["*"]), json!(["deployments/*"]), json!([]), "get", "deployments/scale", "x", false),
            (json!(["*"]), json!(["*"]), json!(["x"]), "get", "deployments", "x", true),
            (json!(["*"]), json!(["*"]), json!(["x"]), "get", "deployments", "y", false),
            (json!(["*"]), json!(["*"]), json!(["x"]), "get", "deployments", "", false),
            (json!(["*"]), json!(["*"]), json!([]), "delete", "deployments", "", false),
        ];
        for (groups, resources, names, verb, asked, name, expected) in table {
            let rule = rule(json!({"verbs": ["get"], "apiGroups": groups, "resources": resources,
                "resourceNames": names}));
            assert_eq!(allows(&rule, verb, &action(asked, name)), expected, "{rule:?} {verb} {asked}");
        }
    }

    #[test]
    fn paths() {
        let table = [
            ("/version", "/version", true),
            ("/version", "/versions", false),
            ("/api/*", "/api/v1", true),
            ("/api/*", "/api", false),
            ("*", "/x", true),
        ];
        for (pattern, path, expected) in table {
            let rule = rule(json!({"verbs": ["get"], "nonResourceURLs": [pattern]}));
            assert_eq!(allows(&rule, "get", &Action::Path(path)), expected, "{pattern} {path}");
            assert!(!allows(&rule, "post", &Action::Path(path)));
        }
    }
}
