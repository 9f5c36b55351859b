//! ConfigMaps.

use base_meta::field;
use k8s_openapi::api::core::v1::ConfigMap;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Data", "How many entries it has."), AGE];

pub struct ConfigMapStrategy;

impl Strategy for ConfigMapStrategy {
    type Object = ConfigMap;

    fn def(&self) -> ResourceDef {
        ResourceDef { short_names: &["cm"], ..define::resource::<ConfigMap>("configmaps", "configmap", COLUMNS) }
    }

    fn validate(&self, _: &RequestContext, object: &ConfigMap) -> Vec<field::Error> {
        api::validation::config::config_map(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ConfigMap, old: &ConfigMap) -> Vec<field::Error> {
        api::validation::config::config_map_update(new, old)
    }

    fn row(&self, object: &ConfigMap) -> Vec<Value> {
        let entries = object.data.as_ref().map_or(0, |data| data.len())
            + object.binary_data.as_ref().map_or(0, |data| data.len());
        vec![columns::name(&object.metadata), json!(entries), columns::age(&object.metadata)]
    }
}
