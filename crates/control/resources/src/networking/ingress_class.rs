//! IngressClasses.

use base_meta::field;
use k8s_openapi::api::networking::v1::IngressClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Controller", "Which controller implements the class."),
    columns::text("Parameters", "The object with the controller's further settings."),
    AGE,
];

pub struct IngressClassStrategy;

impl Strategy for IngressClassStrategy {
    type Object = IngressClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            ..define::resource::<IngressClass>("ingressclasses", "ingressclass", COLUMNS)
        }
    }

    fn default(&self, object: &mut IngressClass) {
        api::defaults::ingress_class(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &IngressClass) -> Vec<field::Error> {
        api::validation::ingress::ingress_class(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &IngressClass, old: &IngressClass) -> Vec<field::Error> {
        api::validation::ingress::ingress_class_update(new, old)
    }

    fn row(&self, object: &IngressClass) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let parameters = spec.and_then(|spec| spec.parameters.as_ref()).map_or("<none>".to_owned(), |parameters| {
            let group = parameters.api_group.as_ref().map_or(String::new(), |group| format!(".{group}"));
            format!("{}{group}/{}", parameters.kind, parameters.name)
        });
        vec![
            columns::name(&object.metadata),
            json!(spec.and_then(|spec| spec.controller.as_deref()).unwrap_or("")),
            json!(parameters),
            columns::age(&object.metadata),
        ]
    }
}
