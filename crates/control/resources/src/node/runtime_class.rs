//! RuntimeClasses.

use base_meta::field;
use k8s_openapi::api::node::v1::RuntimeClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Handler", "What the node's runtime knows the class by."), AGE];

pub struct RuntimeClassStrategy;

impl Strategy for RuntimeClassStrategy {
    type Object = RuntimeClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            ..define::resource::<RuntimeClass>("runtimeclasses", "runtimeclass", COLUMNS)
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &RuntimeClass) -> Vec<field::Error> {
        api::validation::runtime_class::runtime_class(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &RuntimeClass, old: &RuntimeClass) -> Vec<field::Error> {
        api::validation::runtime_class::runtime_class_update(new, old)
    }

    fn row(&self, object: &RuntimeClass) -> Vec<Value> {
        vec![columns::name(&object.metadata), json!(object.handler), columns::age(&object.metadata)]
    }
}
