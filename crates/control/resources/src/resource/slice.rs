//! ResourceSlices.

use base_meta::field;
use k8s_openapi::api::resource::v1::ResourceSlice;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Node", "The node that has the devices."),
    columns::text("Driver", "The driver that manages them."),
    columns::text("Pool", "The pool they belong to."),
    AGE,
];

pub struct ResourceSliceStrategy;

impl Strategy for ResourceSliceStrategy {
    type Object = ResourceSlice;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            fields: &["spec.nodeName", "spec.driver"],
            answers_deleted: true,
            ..define::resource::<ResourceSlice>("resourceslices", "resourceslice", COLUMNS)
        }
    }

    fn default(&self, object: &mut ResourceSlice) {
        api::defaults::resource_slice(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &ResourceSlice) -> Vec<field::Error> {
        api::validation::resource_slice::slice(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ResourceSlice, old: &ResourceSlice) -> Vec<field::Error> {
        api::validation::resource_slice::slice_update(new, old)
    }

    fn selectable(&self, object: &ResourceSlice) -> Vec<(&'static str, String)> {
        let node = object.spec.node_name.clone().unwrap_or_default();
        vec![("spec.nodeName", node), ("spec.driver", object.spec.driver.clone())]
    }

    fn row(&self, object: &ResourceSlice) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.spec.node_name.as_deref().unwrap_or("")),
            json!(object.spec.driver),
            json!(object.spec.pool.name),
            columns::age(&object.metadata),
        ]
    }
}
