//! CSIStorageCapacities.

use base_meta::field;
use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("StorageClassName", "The class that the capacity is for."),
    columns::text("Capacity", "How much is free."),
];

pub struct CsiStorageCapacityStrategy;

impl Strategy for CsiStorageCapacityStrategy {
    type Object = CSIStorageCapacity;

    fn def(&self) -> ResourceDef {
        define::resource::<CSIStorageCapacity>("csistoragecapacities", "csistoragecapacity", COLUMNS)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &CSIStorageCapacity) -> Vec<field::Error> {
        api::validation::csi::csi_storage_capacity(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &CSIStorageCapacity,
        old: &CSIStorageCapacity,
    ) -> Vec<field::Error> {
        api::validation::csi::csi_storage_capacity_update(new, old)
    }

    fn row(&self, object: &CSIStorageCapacity) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.storage_class_name),
            json!(object.capacity.as_ref().map_or("<unset>", |capacity| capacity.0.as_str())),
        ]
    }
}
