//! LimitRanges.

use base_meta::field;
use k8s_openapi::api::core::v1::LimitRange;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Created At", "When it was created.")];

pub struct LimitRangeStrategy;

impl Strategy for LimitRangeStrategy {
    type Object = LimitRange;

    fn def(&self) -> ResourceDef {
        ResourceDef { short_names: &["limits"], ..define::resource::<LimitRange>("limitranges", "limitrange", COLUMNS) }
    }

    fn default(&self, object: &mut LimitRange) {
        api::defaults::limit_range(object);
    }

    fn validate(&self, _: &RequestContext, object: &LimitRange) -> Vec<field::Error> {
        api::validation::limit_range::limit_range(object)
    }

    fn row(&self, object: &LimitRange) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        vec![columns::name(&object.metadata), json!(created.unwrap_or_default())]
    }
}
