//! MutatingWebhookConfigurations.

use base_meta::field;
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, MutatingWebhookConfiguration};
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use super::{CATEGORIES, expressions};
use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::integer("Webhooks", "How many webhooks it configures."), AGE];

pub struct MutatingWebhookStrategy;

impl Strategy for MutatingWebhookStrategy {
    type Object = MutatingWebhookConfiguration;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            categories: CATEGORIES,
            scope: Scope::Cluster,
            ..define::resource::<MutatingWebhookConfiguration>(
                "mutatingwebhookconfigurations",
                "mutatingwebhookconfiguration",
                COLUMNS,
            )
        }
    }

    fn default(&self, object: &mut MutatingWebhookConfiguration) {
        api::defaults::mutating_webhooks(object);
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, _: &RequestContext, object: &MutatingWebhookConfiguration) -> Vec<field::Error> {
        let mut errors = api::validation::webhook::mutating(object);
        errors.extend(expressions::webhooks(conditions(object)));
        errors
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &MutatingWebhookConfiguration,
        old: &MutatingWebhookConfiguration,
    ) -> Vec<field::Error> {
        let mut errors = api::validation::webhook::mutating_update(new, old);
        // Conditions that stay as they are may be of an older server, which knew other functions.
        if !conditions(new).eq(conditions(old)) {
            errors.extend(expressions::webhooks(conditions(new)));
        }
        errors
    }

    fn row(&self, object: &MutatingWebhookConfiguration) -> Vec<Value> {
        let count = object.webhooks.as_ref().map_or(0, |webhooks| webhooks.len());
        vec![columns::name(&object.metadata), json!(count), columns::age(&object.metadata)]
    }
}

/// Of each webhook.
fn conditions(object: &MutatingWebhookConfiguration) -> impl Iterator<Item = Option<&[MatchCondition]>> {
    object.webhooks.iter().flatten().map(|hook| hook.match_conditions.as_deref())
}
