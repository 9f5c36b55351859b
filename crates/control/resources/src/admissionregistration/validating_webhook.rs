//! ValidatingWebhookConfigurations.

use base_meta::field;
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, ValidatingWebhookConfiguration};
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
        errors.extend(expressions::webhooks(conditions(object)));
        errors
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &ValidatingWebhookConfiguration,
        old: &ValidatingWebhookConfiguration,
    ) -> Vec<field::Error> {
        let mut errors = api::validation::webhook::validating_update(new, old);
        // Conditions that stay as they are may be of an older server, which knew other functions.
        if !conditions(new).eq(conditions(old)) {
            errors.extend(expressions::webhooks(conditions(new)));
        }
        errors
    }

    fn row(&self, object: &ValidatingWebhookConfiguration) -> Vec<Value> {
        let count = object.webhooks.as_ref().map_or(0, |webhooks| webhooks.len());
        vec![columns::name(&object.metadata), json!(count), columns::age(&object.metadata)]
    }
}

/// Of each webhook.
fn conditions(object: &ValidatingWebhookConfiguration) -> impl Iterator<Item = Option<&[MatchCondition]>> {
    object.webhooks.iter().flatten().map(|hook| hook.match_conditions.as_deref())
}
