//! APIServices: which group versions there are, and who serves them.

use base_meta::field;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Service", "The service that serves it; Local is this API server."),
    columns::text("Available", "Whether it can be served."),
    AGE,
];

pub struct ApiServiceStrategy;

impl Strategy for ApiServiceStrategy {
    type Object = APIService;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: &["api-extensions"],
            scope: Scope::Cluster,
            subresources: vec![define::status::<APIService>()],
            ..define::resource::<APIService>("apiservices", "apiservice", COLUMNS)
        }
    }

    fn default(&self, object: &mut APIService) {
        api::defaults::api_service(object);
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_for_create(&self, _: &RequestContext, object: &mut APIService) {
        if object.spec.as_ref().is_none_or(|spec| spec.service.is_none()) {
            available(object);
        }
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut APIService, _: &APIService) {
        // One that a service served until now is served here from now on, and so is available.
        if new.spec.as_ref().is_none_or(|spec| spec.service.is_none()) {
            available(new);
        }
    }

    fn validate_name(&self, _: &str) -> Vec<String> {
        // The name repeats the spec, which `validate` compares it with.
        Vec::new()
    }

    fn validate(&self, _: &RequestContext, object: &APIService) -> Vec<field::Error> {
        api::validation::api_service::api_service(object)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &APIService, _: &APIService) -> Vec<field::Error> {
        api::validation::api_service::api_service_status(new)
    }

    fn row(&self, object: &APIService) -> Vec<Value> {
        let service = object.spec.as_ref().and_then(|spec| spec.service.as_ref()).map(|service| {
            let said = |slot: &Option<String>| slot.clone().unwrap_or_default();
            format!("{}/{}", said(&service.namespace), said(&service.name))
        });
        let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let available = conditions.into_iter().find(|condition| condition.type_ == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) if condition.status == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", condition.status, condition.reason.as_deref().unwrap_or("")),
        };
        vec![
            columns::name(&object.metadata),
            json!(service.as_deref().unwrap_or("Local")),
            json!(available),
            columns::age(&object.metadata),
        ]
    }
}

/// What this API server serves itself is available from the first moment.
fn available(object: &mut APIService) {
    let conditions = object.status.get_or_insert_default().conditions.get_or_insert_default();
    if conditions.iter().any(|condition| condition.type_ == "Available" && condition.status == "True") {
        return;
    }
    conditions.retain(|condition| condition.type_ != "Available");
    conditions.push(APIServiceCondition {
        type_: "Available".to_owned(),
        status: "True".to_owned(),
        reason: Some("Local".to_owned()),
        message: Some("Local APIServices are always available".to_owned()),
        last_transition_time: Some(Time(
            Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH),
        )),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_who_serves() {
        let made = |value| -> APIService { serde_json::from_value(value).expect("an APIService") };
        let mut local = made(json!({"metadata": {"name": "v1."}, "spec": {"version": "v1"}}));
        assert_eq!(ApiServiceStrategy.row(&local)[1..3], ["Local", "Unknown"]);
        available(&mut local);
        available(&mut local);
        assert_eq!(ApiServiceStrategy.row(&local)[1..3], ["Local", "True"]);
        assert_eq!(local.status.expect("a status").conditions.expect("conditions").len(), 1);
        let remote = made(json!({"spec": {"service": {"namespace": "a", "name": "b"}}, "status": {"conditions": [
            {"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}}));
        assert_eq!(ApiServiceStrategy.row(&remote)[1..3], ["a/b", "False (MissingEndpoints)"]);
    }
}
