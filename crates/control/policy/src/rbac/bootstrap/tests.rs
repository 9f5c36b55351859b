use serde_json::json;

use super::*;

#[test]
fn every_object_has_a_name_of_its_own() {
    let mut names: Vec<String> = policy()
        .iter()
        .map(|(kind, object)| format!("{kind:?} {} {}", object["metadata"]["namespace"], object["metadata"]["name"]))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count > 100, "{count}");
}

#[test]
fn every_object_is_valid_and_what_was_just_written_is_kept() {
    for (kind, object) in policy() {
        let errors = match kind {
            Kind::ClusterRoles => api::validation::rbac::cluster_role(&parsed(&object)),
            Kind::Roles => api::validation::rbac::role(&parsed(&object)),
            Kind::ClusterRoleBindings => api::validation::rbac::cluster_role_binding(&parsed(&object)),
            Kind::RoleBindings => api::validation::rbac::role_binding(&parsed(&object)),
        };
        assert_eq!(errors, [], "{object}");
        assert_eq!(reconcile(Some(&object), &object), Step::Keep, "{object}");
    }
}

fn parsed<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("it parses")
}

#[test]
fn only_what_is_missing_is_added() {
    let (_, wanted) = role("r", &[On("get list", "core", "pods")]).object("");
    assert_eq!(reconcile(None, &wanted), Step::Create);

    let mut fewer = wanted.clone();
    fewer["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": ["mine"], "resources": ["own"]}]);
    fewer["metadata"]["labels"] = json!({"own": "label"});
    let Step::Update(mended) = reconcile(Some(&fewer), &wanted) else { panic!("it lacks something") };
    assert_eq!(mended["metadata"]["labels"], json!({"own": "label", "kubernetes.io/bootstrapping": "rbac-defaults"}));
    assert_eq!(mended["rules"].as_array().map(Vec::len), Some(3));
    assert_eq!(mended["rules"][2], json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}));

    fewer["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    assert_eq!(reconcile(Some(&fewer), &wanted), Step::Keep, "a user has taken charge");

    let (_, wanted) = cluster_binding("r", &[User("a")]);
    let mut other = wanted.clone();
    other["subjects"] = json!([{"apiGroup": api::rbac::GROUP, "kind": "User", "name": "b"}]);
    let Step::Update(mended) = reconcile(Some(&other), &wanted) else { panic!("it lacks something") };
    assert_eq!(mended["subjects"].as_array().map(Vec::len), Some(2));
    other["roleRef"]["name"] = json!("else");
    assert_eq!(reconcile(Some(&other), &wanted), Step::Replace);
}
