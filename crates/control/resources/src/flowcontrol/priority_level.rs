//! PriorityLevelConfigurations.

use base_meta::field;
use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Type", "Whether its requests are limited."),
    columns::text("NominalConcurrencyShares", "Its share of the requests served at once."),
    columns::text("Queues", "How many queues it has."),
    columns::text("HandSize", "How many queues a flow may use."),
    columns::text("QueueLengthLimit", "How many requests may wait in one queue."),
    AGE,
];

pub struct PriorityLevelStrategy;

impl Strategy for PriorityLevelStrategy {
    type Object = PriorityLevelConfiguration;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            subresources: vec![define::status::<PriorityLevelConfiguration>()],
            ..define::resource::<PriorityLevelConfiguration>(
                "prioritylevelconfigurations",
                "prioritylevelconfiguration",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut PriorityLevelConfiguration) {
        api::defaults::priority_level(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &PriorityLevelConfiguration) -> Vec<field::Error> {
        api::validation::priority_level::priority_level(object)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &PriorityLevelConfiguration,
        _: &PriorityLevelConfiguration,
    ) -> Vec<field::Error> {
        api::validation::priority_level::priority_level_status(new)
    }

    fn row(&self, object: &PriorityLevelConfiguration) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let limited = spec.and_then(|spec| spec.limited.as_ref());
        let queuing =
            limited.and_then(|limited| limited.limit_response.as_ref()).and_then(|response| response.queuing.as_ref());
        let number = |number: Option<i32>| json!(number.unwrap_or(0));
        let none = || json!("<none>");
        vec![
            columns::name(&object.metadata),
            json!(spec.map_or("", |spec| &spec.type_)),
            limited.map_or_else(none, |limited| number(limited.nominal_concurrency_shares)),
            queuing.map_or_else(none, |queuing| number(queuing.queues)),
            queuing.map_or_else(none, |queuing| number(queuing.hand_size)),
            queuing.map_or_else(none, |queuing| number(queuing.queue_length_limit)),
            columns::age(&object.metadata),
        ]
    }
}
