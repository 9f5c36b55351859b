//! FlowSchemas.

use base_meta::field;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("PriorityLevel", "The level that serves its requests."),
    columns::text("MatchingPrecedence", "The lowest that matches takes a request."),
    columns::text("DistinguisherMethod", "What tells one flow from another."),
    AGE,
    columns::text("MissingPL", "Whether the level it names is broken or missing."),
];

pub struct FlowSchemaStrategy;

impl Strategy for FlowSchemaStrategy {
    type Object = FlowSchema;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            subresources: vec![define::status::<FlowSchema>()],
            ..define::resource::<FlowSchema>("flowschemas", "flowschema", COLUMNS)
        }
    }

    fn default(&self, object: &mut FlowSchema) {
        api::defaults::flow_schema(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &FlowSchema) -> Vec<field::Error> {
        api::validation::flow_schema::flow_schema(object)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &FlowSchema, _: &FlowSchema) -> Vec<field::Error> {
        api::validation::flow_schema::flow_schema_status(new)
    }

    fn row(&self, object: &FlowSchema) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let dangling = conditions.into_iter().find(|condition| condition.type_.as_deref() == Some("Dangling"));
        let method = spec.and_then(|spec| spec.distinguisher_method.as_ref()).map(|method| method.type_.as_str());
        vec![
            columns::name(&object.metadata),
            json!(spec.map_or("", |spec| &spec.priority_level_configuration.name)),
            json!(spec.and_then(|spec| spec.matching_precedence).unwrap_or(0)),
            json!(method.unwrap_or("<none>")),
            columns::age(&object.metadata),
            json!(dangling.and_then(|condition| condition.status.as_deref()).unwrap_or("?")),
        ]
    }
}
