//! ValidatingWebhookConfigurations.

use base_meta::field;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::{CATEGORIES, expressions};
use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::integer("Webhooks", "How many webhooks it configures."), AGE];

pub struct ValidatingWebhookStrategy;

impl Strategy for ValidatingWebhookStrategy {
    type Object = ValidatingWebhookConfiguration;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            ..define::resource::<ValidatingWebhookConfiguration>(
                "validatingwebhookconfigurations",
                "validatingwebhookconfiguration",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut ValidatingWebhookConfiguration) {
        api::defaults::validating_webhooks(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &ValidatingWebhookConfiguration) -> Vec<field::Error> {
        let mut errors = api::validation::webhook::validating(object);
        let hooks = object.webhooks.iter().flatten();
        errors.extend(expressions::webhooks(hooks.map(|hook| hook.match_conditions.as_deref())));
        errors
    }

    fn row(&self, object: &ValidatingWebhookConfiguration) -> Vec<Value> {
        let count = object.webhooks.as_ref().map_or(0, |webhooks| webhooks.len());
        vec![columns::name(&object.metadata), json!(count), columns::age(&object.metadata)]
    }
}
