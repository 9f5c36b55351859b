//! CSIDrivers.

use base_meta::field;
use k8s_openapi::api::storage::v1::CSIDriver;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::boolean("AttachRequired", "Whether its volumes are attached before they are mounted."),
    columns::boolean("PodInfoOnMount", "Whether it is told of the pod when it mounts."),
    columns::boolean("StorageCapacity", "Whether it reports free capacity."),
    columns::text("TokenRequests", "Audiences of the service account tokens it is given."),
    columns::boolean("RequiresRepublish", "Whether it is called again from time to time."),
    columns::text("Modes", "Kinds of volumes it supports."),
    AGE,
];

pub struct CsiDriverStrategy;

impl Strategy for CsiDriverStrategy {
    type Object = CSIDriver;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            answers_deleted: true,
            ..define::resource::<CSIDriver>("csidrivers", "csidriver", COLUMNS)
        }
    }

    fn default(&self, object: &mut CSIDriver) {
        api::defaults::csi_driver(object);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &CSIDriver) -> Vec<field::Error> {
        api::validation::csi::csi_driver(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &CSIDriver, old: &CSIDriver) -> Vec<field::Error> {
        api::validation::csi::csi_driver_update(new, old)
    }

    fn row(&self, object: &CSIDriver) -> Vec<Value> {
        let spec = &object.spec;
        let tokens = spec.token_requests.as_ref().map_or("<unset>".to_owned(), |requests| {
            requests.iter().map(|request| request.audience.as_str()).collect::<Vec<_>>().join(",")
        });
        let modes = spec.volume_lifecycle_modes.as_deref().unwrap_or_default().join(",");
        vec![
            columns::name(&object.metadata),
            json!(spec.attach_required.unwrap_or(true)),
            json!(spec.pod_info_on_mount.unwrap_or(false)),
            json!(spec.storage_capacity.unwrap_or(false)),
            json!(tokens),
            json!(spec.requires_republish.unwrap_or(false)),
            json!(columns::or_none(Some(&modes))),
            columns::age(&object.metadata),
        ]
    }
}
