//! VolumeAttributesClasses.

use base_meta::field;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("DriverName", "The driver that knows its parameters."), AGE];

pub struct VolumeAttributesClassStrategy;

impl Strategy for VolumeAttributesClassStrategy {
    type Object = VolumeAttributesClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["vac"],
            scope: Scope::Cluster,
            answers_deleted: true,
            ..define::resource::<VolumeAttributesClass>("volumeattributesclasses", "volumeattributesclass", COLUMNS)
        }
    }

    fn validate(&self, _: &RequestContext, object: &VolumeAttributesClass) -> Vec<field::Error> {
        api::validation::storage::volume_attributes_class(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &VolumeAttributesClass,
        old: &VolumeAttributesClass,
    ) -> Vec<field::Error> {
        api::validation::storage::volume_attributes_class_update(new, old)
    }

    fn row(&self, object: &VolumeAttributesClass) -> Vec<Value> {
        vec![columns::name(&object.metadata), json!(object.driver_name), columns::age(&object.metadata)]
    }
}
