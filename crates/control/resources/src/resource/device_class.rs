//! DeviceClasses.

use base_meta::field;
use k8s_openapi::api::resource::v1::DeviceClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::Value;

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, AGE];

pub struct DeviceClassStrategy;

impl Strategy for DeviceClassStrategy {
    type Object = DeviceClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            answers_deleted: true,
            ..define::resource::<DeviceClass>("deviceclasses", "deviceclass", COLUMNS)
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &DeviceClass) -> Vec<field::Error> {
        api::validation::resource_claim::device_class(object)
    }

    fn row(&self, object: &DeviceClass) -> Vec<Value> {
        vec![columns::name(&object.metadata), columns::age(&object.metadata)]
    }
}
