//! `rbac.authorization.k8s.io/v1`: which group a reference means when it names none.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};

use super::text;
use crate::rbac::GROUP;

pub fn role_binding(binding: &mut RoleBinding) {
    references(&mut binding.role_ref, binding.subjects.as_deref_mut());
}

pub fn cluster_role_binding(binding: &mut ClusterRoleBinding) {
    references(&mut binding.role_ref, binding.subjects.as_deref_mut());
}

fn references(role: &mut RoleRef, subjects: Option<&mut [Subject]>) {
    text(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), "User" | "Group") {
            text(&mut subject.api_group, GROUP);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_without_a_group_mean_rbacs() {
        let mut binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {}, "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "b"}],
        }))
        .expect("a binding");
        role_binding(&mut binding);
        assert_eq!(binding.role_ref.api_group.as_deref(), Some(GROUP));
        let groups: Vec<_> = binding.subjects.into_iter().flatten().map(|subject| subject.api_group).collect();
        assert_eq!(groups, [Some(GROUP.to_owned()), None]);
    }
}
