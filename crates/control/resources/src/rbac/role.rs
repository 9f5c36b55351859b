//! Roles and ClusterRoles.

use base_meta::field;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::define;

const CREATED: Column =
    Column { name: "Created At", kind: "date", format: "", description: "When it was created.", priority: 0 };
const COLUMNS: &[Column] = &[NAME, CREATED];

fn row(metadata: &ObjectMeta) -> Vec<Value> {
    vec![columns::name(metadata), json!(metadata.creation_timestamp)]
}

pub struct RoleStrategy;

impl Strategy for RoleStrategy {
    type Object = Role;

    fn def(&self) -> ResourceDef {
        define::resource::<Role>("roles", "role", COLUMNS)
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &Role) -> Vec<field::Error> {
        api::validation::rbac::role(object)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &Role) -> Vec<Value> {
        row(&object.metadata)
    }
}

pub struct ClusterRoleStrategy;

impl Strategy for ClusterRoleStrategy {
    type Object = ClusterRole;

    fn def(&self) -> ResourceDef {
        ResourceDef { scope: Scope::Cluster, ..define::resource::<ClusterRole>("clusterroles", "clusterrole", COLUMNS) }
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &ClusterRole) -> Vec<field::Error> {
        api::validation::rbac::cluster_role(object)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn row(&self, object: &ClusterRole) -> Vec<Value> {
        row(&object.metadata)
    }
}
