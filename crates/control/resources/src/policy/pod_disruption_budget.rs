//! PodDisruptionBudgets.

use base_meta::field;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Min Available", "How many pods must stay."),
    columns::text("Max Unavailable", "How many pods may be gone."),
    columns::integer("Allowed Disruptions", "How many pods may be evicted now."),
    AGE,
];

pub struct PodDisruptionBudgetStrategy;

impl Strategy for PodDisruptionBudgetStrategy {
    type Object = PodDisruptionBudget;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            short_names: &["pdb"],
            subresources: vec![define::status::<PodDisruptionBudget>()],
            ..define::resource::<PodDisruptionBudget>("poddisruptionbudgets", "poddisruptionbudget", COLUMNS)
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &PodDisruptionBudget) -> Vec<field::Error> {
        api::validation::pod_disruption_budget::pod_disruption_budget(object)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &PodDisruptionBudget,
        _: &PodDisruptionBudget,
    ) -> Vec<field::Error> {
        api::validation::pod_disruption_budget::pod_disruption_budget_status_update(new)
    }

    fn row(&self, object: &PodDisruptionBudget) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let amount = |amount: Option<&IntOrString>| match amount {
            None => json!("N/A"),
            Some(IntOrString::Int(number)) => json!(number.to_string()),
            Some(IntOrString::String(text)) => json!(text),
        };
        vec![
            columns::name(&object.metadata),
            amount(spec.and_then(|spec| spec.min_available.as_ref())),
            amount(spec.and_then(|spec| spec.max_unavailable.as_ref())),
            json!(object.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0)),
            columns::age(&object.metadata),
        ]
    }
}
