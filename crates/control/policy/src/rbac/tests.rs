//! The authorizer over the default policy, and over roles that users make.

use std::sync::Arc;

use machinery_apiserver::{Action, Attributes, Authorizer as _, Decision};
use machinery_registry::UserInfo;
use serde_json::{Value, json};

use super::*;

/// The default policy as a fresh cluster has it.
pub(crate) fn defaults() -> Arc<Rbac> {
    let rbac = Arc::new(Rbac::default());
    for (kind, value) in bootstrap::policy() {
        rbac.put_value(kind, &value);
    }
    aggregate::settle(&mut rbac.write());
    rbac
}

/// Each may do one thing in one namespace: user, namespace, group, resource, verb.
pub(crate) fn granting(grants: &[(&str, &str, &str, &str, &str)]) -> Rbac {
    let rbac = Rbac::default();
    for (index, (user, namespace, group, resource, verb)) in grants.iter().enumerate() {
        let name = format!("grant-{index}");
        let rule = json!({"verbs": [verb], "apiGroups": [group], "resources": [resource]});
        put(&rbac, Kind::Roles, namespace, &name, json!({ "rules": [rule] }));
        let subject = json!([{"kind": "User", "apiGroup": api::rbac::GROUP, "name": user}]);
        put(&rbac, Kind::RoleBindings, namespace, &name, bound("Role", &name, subject));
    }
    rbac
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    UserInfo { name: name.into(), groups, ..UserInfo::default() }
}

/// `what`: `resource[.group][/subresource]`.
fn ask(rbac: &Rbac, user: &UserInfo, verb: &str, what: &str, place: (&str, &str)) -> Option<String> {
    let (qualified, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = qualified.split_once('.').unwrap_or((qualified, ""));
    let (namespace, name) = place;
    let action = Action::Resource { group, version: "v1", resource, subresource, namespace, name };
    rbac.allows(&Attributes { user, verb, action }).map(|reason| reason.to_string())
}

fn put(rbac: &Rbac, kind: Kind, namespace: &str, name: &str, more: Value) {
    let mut value = json!({"metadata": {"name": name, "namespace": namespace}});
    value.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    rbac.put_value(kind, &value);
}

fn bound(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": api::rbac::GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

#[test]
fn a_binding_grants_its_role_where_it_says() {
    let rbac = Rbac::default();
    put(
        &rbac,
        Kind::ClusterRoles,
        "",
        "reader",
        json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
    );
    put(
        &rbac,
        Kind::Roles,
        "a",
        "writer",
        json!({"rules": [{"verbs": ["update"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["p"]}]}),
    );
    put(
        &rbac,
        Kind::ClusterRoleBindings,
        "",
        "all",
        bound("ClusterRole", "reader", json!([{"kind": "Group", "name": "g"}])),
    );
    put(
        &rbac,
        Kind::RoleBindings,
        "a",
        "one",
        bound("Role", "writer", json!([{"kind": "ServiceAccount", "name": "bot"}, {"kind": "User", "name": "jane"}])),
    );
    let (jane, bot) = (user("jane", &["g"]), user("system:serviceaccount:a:bot", &[]));
    assert_eq!(
        ask(&rbac, &jane, "get", "pods", ("b", "x")).as_deref(),
        Some(r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "g""#)
    );
    assert_eq!(
        ask(&rbac, &bot, "update", "pods", ("a", "p")).as_deref(),
        Some(r#"RBAC: allowed by RoleBinding "one/a" of Role "writer" to ServiceAccount "bot/a""#)
    );
    assert_eq!(ask(&rbac, &jane, "update", "pods", ("a", "other")), None);
    assert_eq!(ask(&rbac, &jane, "update", "pods", ("b", "p")), None);
    assert_eq!(ask(&rbac, &bot, "get", "pods", ("a", "p")), None);
    rbac.write().remove_binding(&index::Key::new("a", "one"));
    assert_eq!(ask(&rbac, &jane, "update", "pods", ("a", "p")), None);
    assert!(ask(&rbac, &jane, "get", "pods", ("a", "p")).is_some(), "the other binding stays");
    // A binding that changes its subjects forgets the old.
    put(&rbac, Kind::ClusterRoleBindings, "", "all", bound("ClusterRole", "reader", json!([])));
    assert_eq!(ask(&rbac, &jane, "get", "pods", ("a", "p")), None);
}

#[tokio::test]
async fn a_role_that_is_not_there_is_told() {
    let rbac = Rbac::default();
    put(
        &rbac,
        Kind::ClusterRoleBindings,
        "",
        "b",
        bound("ClusterRole", "gone", json!([{"kind": "User", "name": "jane"}])),
    );
    let jane = user("jane", &[]);
    let asked = Attributes { user: &jane, verb: "get", action: Action::Path("/x") };
    assert_eq!(
        rbac.authorize(&asked).await,
        Decision::NoOpinion { reason: r#"RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#.into() }
    );
}

#[test]
fn the_default_policy_lets_the_clusters_parts_work_and_no_more() {
    let rbac = defaults();
    let authenticated = &["system:authenticated"];
    let table = [
        ("system:kube-controller-manager", "create", "replicasets.apps", true),
        ("system:kube-controller-manager", "create", "pods", true),
        ("system:kube-controller-manager", "create", "jobs.batch", true),
        ("system:kube-controller-manager", "create", "configmaps", true),
        ("system:kube-controller-manager", "create", "serviceaccounts", true),
        ("system:kube-controller-manager", "create", "secrets", true),
        ("system:kube-controller-manager", "create", "endpoints", true),
        ("system:kube-controller-manager", "create", "endpointslices.discovery.k8s.io", true),
        ("system:kube-controller-manager", "create", "leases.coordination.k8s.io", true),
        ("system:kube-controller-manager", "deletecollection", "secrets", true),
        ("system:kube-controller-manager", "update", "namespaces/finalize", true),
        ("system:kube-controller-manager", "patch", "deployments.apps/status", true),
        ("system:kube-controller-manager", "watch", "anything.example.org", true),
        ("system:kube-controller-manager", "create", "nodes", false),
        ("system:kube-controller-manager", "create", "pods/exec", false),
        ("system:kube-controller-manager", "create", "clusterrolebindings.rbac.authorization.k8s.io", false),
        ("system:kube-scheduler", "create", "pods/binding", true),
        ("system:kube-scheduler", "update", "pods/status", true),
        ("system:kube-scheduler", "update", "pods", false),
        ("system:kube-scheduler", "list", "secrets", false),
        ("system:kube-proxy", "watch", "endpointslices.discovery.k8s.io", true),
        ("system:kube-proxy", "list", "namespaces", true),
        ("system:kube-proxy", "update", "services", false),
        ("system:serviceaccount:kube-system:job-controller", "create", "pods", true),
        ("jane", "create", "selfsubjectaccessreviews.authorization.k8s.io", true),
        ("jane", "get", "pods", false),
    ];
    for (name, verb, what, expected) in table {
        let allowed = ask(&rbac, &user(name, authenticated), verb, what, ("a", "x")).is_some();
        assert_eq!(allowed, expected, "{name} {verb} {what}");
    }
    assert!(ask(&rbac, &user("x", &["system:masters"]), "do", "anything", ("", "")).is_some());
    // The cluster DNS of a node that joined.
    let node = user("system:node:n2", &["system:nodes"]);
    assert!(ask(&rbac, &node, "watch", "configmaps", ("kube-system", "sampan-dns")).is_some());
    assert!(ask(&rbac, &node, "watch", "configmaps", ("kube-system", "others")).is_none());
}

#[test]
fn admin_edit_and_view_are_sums_of_the_roles_made_for_them() {
    let rbac = defaults();
    for role in ["admin", "edit", "view"] {
        let of = bound("ClusterRole", role, json!([{"kind": "User", "name": role}]));
        put(&rbac, Kind::RoleBindings, "a", role, of);
    }
    let table = [
        ("view", "get", "pods", true),
        ("view", "get", "secrets", false),
        ("view", "create", "pods", false),
        ("edit", "get", "pods", true),
        ("edit", "create", "deployments.apps", true),
        ("edit", "create", "roles.rbac.authorization.k8s.io", false),
        ("admin", "create", "roles.rbac.authorization.k8s.io", true),
        ("admin", "get", "pods/log", true),
        ("admin", "update", "resourcequotas", false),
    ];
    for (name, verb, what, expected) in table {
        assert_eq!(ask(&rbac, &user(name, &[]), verb, what, ("a", "x")).is_some(), expected, "{name} {verb} {what}");
        assert_eq!(ask(&rbac, &user(name, &[]), verb, what, ("b", "x")), None, "elsewhere");
    }
    put(
        &rbac,
        Kind::ClusterRoles,
        "",
        "crds",
        json!({"metadata": {"name": "crds",
        "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.org"], "resources": ["boats"]}]}),
    );
    let names: Vec<String> = aggregate::settle(&mut rbac.write());
    assert_eq!(names, ["admin", "edit", "view"]);
    assert!(ask(&rbac, &user("admin", &[]), "get", "boats.example.org", ("a", "x")).is_some());
}
