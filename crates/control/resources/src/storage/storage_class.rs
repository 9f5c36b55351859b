//! StorageClasses.

use base_meta::field;
use k8s_openapi::api::storage::v1::StorageClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Provisioner", "What makes its volumes."),
    columns::text("ReclaimPolicy", "What happens to a volume whose claim is gone."),
    columns::text("VolumeBindingMode", "When a claim gets its volume."),
    columns::text("AllowVolumeExpansion", "Whether its volumes can grow."),
    AGE,
];

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub struct StorageClassStrategy;

impl Strategy for StorageClassStrategy {
    type Object = StorageClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["sc"],
            scope: Scope::Cluster,
            answers_deleted: true,
            ..define::resource::<StorageClass>("storageclasses", "storageclass", COLUMNS)
        }
    }

    fn default(&self, object: &mut StorageClass) {
        api::defaults::storage_class(object);
    }

    fn validate(&self, _: &RequestContext, object: &StorageClass) -> Vec<field::Error> {
        api::validation::storage::storage_class(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &StorageClass, old: &StorageClass) -> Vec<field::Error> {
        api::validation::storage::storage_class_update(new, old)
    }

    fn row(&self, object: &StorageClass) -> Vec<Value> {
        let annotations = object.metadata.annotations.as_ref();
        let default =
            annotations.is_some_and(|all| DEFAULT.iter().any(|key| all.get(*key).is_some_and(|v| v == "true")));
        let name = object.metadata.name.as_deref().unwrap_or("");
        vec![
            json!(if default { format!("{name} (default)") } else { name.to_owned() }),
            json!(object.provisioner),
            json!(object.reclaim_policy.as_deref().unwrap_or("Delete")),
            json!(object.volume_binding_mode.as_deref().unwrap_or("Immediate")),
            json!(object.allow_volume_expansion.unwrap_or(false)),
            columns::age(&object.metadata),
        ]
    }
}
