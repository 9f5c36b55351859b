//! CSINodes.

use base_meta::field;
use k8s_openapi::api::storage::v1::CSINode;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::integer("Drivers", "How many drivers the node has."), AGE];

pub struct CsiNodeStrategy;

impl Strategy for CsiNodeStrategy {
    type Object = CSINode;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            answers_deleted: true,
            ..define::resource::<CSINode>("csinodes", "csinode", COLUMNS)
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &CSINode) -> Vec<field::Error> {
        api::validation::csi::csi_node(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &CSINode, old: &CSINode) -> Vec<field::Error> {
        api::validation::csi::csi_node_update(new, old)
    }

    fn row(&self, object: &CSINode) -> Vec<Value> {
        vec![columns::name(&object.metadata), json!(object.spec.drivers.len()), columns::age(&object.metadata)]
    }
}
