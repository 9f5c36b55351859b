//! How the default policy is written down, and the objects that come of it.

use serde_json::{Value, json};

use super::Kind;

/// Each text is a list of words; the core group is written `core`.
pub(super) enum Rule {
    /// Verbs, groups, resources.
    On(&'static str, &'static str, &'static str),
    /// Verbs, groups, resources, names of objects.
    Of(&'static str, &'static str, &'static str, &'static str),
    /// Verbs, paths.
    At(&'static str, &'static str),
}

pub(super) struct Role {
    pub(super) name: &'static str,
    /// Which role takes over its rules: `view` for `rbac.authorization.k8s.io/aggregate-to-view`.
    pub(super) into: &'static str,
    /// Whose label chooses its rules.
    pub(super) from: &'static str,
    pub(super) rules: &'static [Rule],
}

pub(super) const fn role(name: &'static str, rules: &'static [Rule]) -> Role {
    Role { name, into: "", from: "", rules }
}

#[derive(Clone, Copy)]
pub(super) enum Subject {
    User(&'static str),
    Group(&'static str),
    /// Of `kube-system`.
    Account(&'static str),
}

const GROUP: &str = api::rbac::GROUP;

/// Sorted, as upstream writes them.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split_whitespace().map(|word| if word == "core" { "" } else { word }).collect();
    words.sort_unstable();
    words
}

impl Rule {
    fn value(&self) -> Value {
        match self {
            Self::On(verbs, groups, resources) => {
                json!({"verbs": words(verbs), "apiGroups": words(groups), "resources": words(resources)})
            }
            Self::Of(verbs, groups, resources, names) => json!({"verbs": words(verbs), "apiGroups": words(groups),
                "resources": words(resources), "resourceNames": words(names)}),
            Self::At(verbs, paths) => json!({"verbs": words(verbs), "nonResourceURLs": words(paths)}),
        }
    }
}

impl Subject {
    fn value(self) -> Value {
        match self {
            Self::User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
            Self::Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
            Self::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

fn object(kind: Kind, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({"name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind.kind(), "metadata": metadata})
}

impl Role {
    /// `namespace` empty: a ClusterRole.
    pub(super) fn object(&self, namespace: &str) -> (Kind, Value) {
        let kind = if namespace.is_empty() { Kind::ClusterRoles } else { Kind::Roles };
        let mut object = object(kind, namespace, self.name);
        let label = |role: &str| format!("{GROUP}/aggregate-to-{role}");
        if !self.into.is_empty() {
            object["metadata"]["labels"][label(self.into)] = json!("true");
        }
        if self.from.is_empty() {
            object["rules"] = self.rules.iter().map(Rule::value).collect();
        } else {
            object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label(self.from): "true"}}]});
        }
        (kind, object)
    }
}

/// Of a ClusterRole to subjects, under its own name.
pub(super) fn cluster_binding(role: &str, subjects: &[Subject]) -> (Kind, Value) {
    let mut object = object(Kind::ClusterRoleBindings, "", role);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": role});
    if !subjects.is_empty() {
        object["subjects"] = subjects.iter().map(|subject| subject.value()).collect();
    }
    (Kind::ClusterRoleBindings, object)
}

pub(super) fn binding(namespace: &str, name: &str, role: &str, subjects: &[Subject]) -> (Kind, Value) {
    let mut object = object(Kind::RoleBindings, namespace, name);
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": role});
    object["subjects"] = subjects.iter().map(|subject| subject.value()).collect();
    (Kind::RoleBindings, object)
}
