//! PriorityClasses.

use base_meta::field;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::integer("Value", "The priority of its pods; the higher goes first."),
    columns::boolean("Global-Default", "Whether pods that name no class get this one."),
    AGE,
    columns::text("PreemptionPolicy", "Whether its pods displace pods of lower priority."),
];

pub struct PriorityClassStrategy;

impl Strategy for PriorityClassStrategy {
    type Object = PriorityClass;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["pc"],
            scope: Scope::Cluster,
            ..define::resource::<PriorityClass>("priorityclasses", "priorityclass", COLUMNS)
        }
    }

    fn default(&self, object: &mut PriorityClass) {
        api::defaults::priority_class(object);
    }

    /// Upstream's classes start at one and stay there.
    fn prepare_for_create(&self, _: &RequestContext, object: &mut PriorityClass) {
        object.metadata.generation = Some(1);
    }

    fn validate(&self, _: &RequestContext, object: &PriorityClass) -> Vec<field::Error> {
        api::validation::priority_class::priority_class(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &PriorityClass, old: &PriorityClass) -> Vec<field::Error> {
        api::validation::priority_class::priority_class_update(new, old)
    }

    fn row(&self, object: &PriorityClass) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.value.unwrap_or(0)),
            json!(object.global_default.unwrap_or(false)),
            columns::age(&object.metadata),
            json!(object.preemption_policy.as_deref().unwrap_or("")),
        ]
    }
}
