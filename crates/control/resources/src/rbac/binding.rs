//! RoleBindings and ClusterRoleBindings.

use base_meta::field;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Role", "The role that it grants."),
    AGE,
    columns::wide("Users", "Users it grants the role to."),
    columns::wide("Groups", "Groups it grants the role to."),
    columns::wide("ServiceAccounts", "Service accounts it grants the role to."),
];

fn row(metadata: &ObjectMeta, role: &RoleRef, subjects: Option<&[Subject]>) -> Vec<Value> {
    let of = |kind: &str| {
        let subjects = subjects.into_iter().flatten().filter(|subject| subject.kind == kind);
        let names = subjects.map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", subject.namespace.as_deref().unwrap_or(""), subject.name),
            _ => subject.name.clone(),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        columns::name(metadata),
        json!(format!("{}/{}", role.kind, role.name)),
        columns::age(metadata),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

pub struct RoleBindingStrategy;

impl Strategy for RoleBindingStrategy {
    type Object = RoleBinding;

    fn def(&self) -> ResourceDef {
        define::resource::<RoleBinding>("rolebindings", "rolebinding", COLUMNS)
    }

    fn default(&self, object: &mut RoleBinding) {
        api::defaults::rbac::role_binding(object);
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &RoleBinding) -> Vec<field::Error> {
        api::validation::rbac::role_binding(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &RoleBinding, old: &RoleBinding) -> Vec<field::Error> {
        api::validation::rbac::role_binding_update(new, old)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &RoleBinding) -> Vec<Value> {
        row(&object.metadata, &object.role_ref, object.subjects.as_deref())
    }
}

pub struct ClusterRoleBindingStrategy;

impl Strategy for ClusterRoleBindingStrategy {
    type Object = ClusterRoleBinding;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            ..define::resource::<ClusterRoleBinding>("clusterrolebindings", "clusterrolebinding", COLUMNS)
        }
    }

    fn default(&self, object: &mut ClusterRoleBinding) {
        api::defaults::rbac::cluster_role_binding(object);
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &ClusterRoleBinding) -> Vec<field::Error> {
        api::validation::rbac::cluster_role_binding(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &ClusterRoleBinding,
        old: &ClusterRoleBinding,
    ) -> Vec<field::Error> {
        api::validation::rbac::cluster_role_binding_update(new, old)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &ClusterRoleBinding) -> Vec<Value> {
        row(&object.metadata, &object.role_ref, object.subjects.as_deref())
    }
}
