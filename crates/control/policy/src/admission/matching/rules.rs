//! `RuleWithOperations`, and what a policy adds to it, against a request.

use base_meta::Gvr;
use machinery_registry::Operation;
use serde::Deserialize;

const ANY: &str = "*";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `pods/*`, `*/*`.
    resources: Vec<String>,
    /// `Cluster`, `Namespaced`; absent and `*` are both.
    scope: Option<String>,
    /// Of policies alone; empty means any.
    resource_names: Vec<String>,
}

/// A request, in the version of one resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) operation: Operation,
    pub(super) gvr: &'a Gvr,
    pub(super) subresource: &'a str,
    /// Of a namespace, whatever is done to it, its own name.
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

fn is_among(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == ANY || item == wanted)
}

impl Rule {
    pub(super) fn matches(&self, subject: Subject<'_>) -> bool {
        self.fits_scope(subject)
            && self.may_match(subject.gvr, subject.subresource, subject.operation)
            && is_among(&self.api_groups, &subject.gvr.group)
            && is_among(&self.api_versions, &subject.gvr.version)
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == subject.name))
    }

    /// In some version or group of the resource.
    pub(super) fn may_match(&self, gvr: &Gvr, subresource: &str, operation: Operation) -> bool {
        is_among(&self.operations, operation.as_str())
            && self.resources.iter().any(|item| {
                let (resource, sub) = item.split_once('/').unwrap_or((item, ""));
                (resource == ANY || resource == gvr.resource) && (sub == ANY || sub == subresource)
            })
    }

    fn fits_scope(&self, subject: Subject<'_>) -> bool {
        let clustered = super::is_namespaces(subject.gvr) || subject.namespace.is_empty();
        match self.scope.as_deref() {
            None | Some(ANY) => true,
            Some("Namespaced") => !clustered,
            Some("Cluster") => clustered,
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(json: Value) -> Rule {
        serde_json::from_value(json).expect("a rule")
    }

    #[test]
    fn resources_and_subresources() {
        let pods = Gvr::of("", "v1", "pods");
        let table = [
            ("pods", "", true),
            ("pods", "log", false),
            ("*", "", true),
            ("*", "log", false),
            ("pods/log", "log", true),
            ("pods/log", "", false),
            ("pods/*", "", true),
            ("pods/*", "exec", true),
            ("*/scale", "scale", true),
            ("*/scale", "", false),
            ("*/*", "", true),
            ("*/*", "exec", true),
            ("services/*", "", false),
        ];
        for (resource, subresource, expected) in table {
            let rule = rule(json!({"operations": ["*"], "resources": [resource]}));
            assert_eq!(rule.may_match(&pods, subresource, Operation::Connect), expected, "{resource} {subresource}");
        }
    }

    #[test]
    fn operations_groups_versions_names() {
        let deployments = Gvr::of("apps", "v1", "deployments");
        let base = json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["*"]});
        let matches = |field: &str, value: Value| {
            let mut rule_ = base.clone();
            rule_[field] = value;
            let subject = Subject {
                operation: Operation::Create,
                gvr: &deployments,
                subresource: "",
                namespace: "a",
                name: "web",
            };
            rule(rule_).matches(subject)
        };
        let table = [
            ("operations", json!(["CREATE"]), true),
            ("operations", json!(["*"]), true),
            ("operations", json!(["UPDATE", "DELETE", "CONNECT"]), false),
            ("operations", json!([]), false),
            ("apiGroups", json!(["", "apps"]), true),
            ("apiGroups", json!(["*"]), true),
            ("apiGroups", json!([""]), false),
            ("apiVersions", json!(["*"]), true),
            ("apiVersions", json!(["v1beta1"]), false),
            ("resources", json!(["deployments"]), true),
            ("resources", json!(["pods"]), false),
            ("resourceNames", json!(["web"]), true),
            ("resourceNames", json!(["other"]), false),
        ];
        for (field, value, expected) in table {
            assert_eq!(matches(field, value.clone()), expected, "{field} {value}");
        }
    }

    #[test]
    fn a_namespace_is_of_the_cluster() {
        let (pods, nodes, namespaces) =
            (Gvr::of("", "v1", "pods"), Gvr::of("", "v1", "nodes"), Gvr::of("", "v1", "namespaces"));
        let table = [
            ("Namespaced", &pods, "a", true),
            ("Namespaced", &nodes, "", false),
            ("Namespaced", &namespaces, "a", false),
            ("Cluster", &pods, "a", false),
            ("Cluster", &nodes, "", true),
            ("Cluster", &namespaces, "a", true),
            ("*", &pods, "a", true),
            ("Other", &pods, "a", false),
        ];
        for (scope, gvr, namespace, expected) in table {
            let rule = rule(json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
                "scope": scope}));
            let subject = Subject { operation: Operation::Update, gvr, subresource: "", namespace, name: "x" };
            assert_eq!(rule.matches(subject), expected, "{scope} {gvr:?}");
        }
    }
}
