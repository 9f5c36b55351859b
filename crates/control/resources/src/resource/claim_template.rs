//! ResourceClaimTemplates.

use base_meta::field;
use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::Value;

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, AGE];

pub struct ResourceClaimTemplateStrategy;

impl Strategy for ResourceClaimTemplateStrategy {
    type Object = ResourceClaimTemplate;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            ..define::resource::<ResourceClaimTemplate>("resourceclaimtemplates", "resourceclaimtemplate", COLUMNS)
        }
    }

    fn default(&self, object: &mut ResourceClaimTemplate) {
        api::defaults::resource_claim_template(object);
    }

    fn validate(&self, _: &RequestContext, object: &ResourceClaimTemplate) -> Vec<field::Error> {
        api::validation::resource_claim::template(object)
    }

    fn validate_update(
        &self,
        _: &RequestContext,
        new: &ResourceClaimTemplate,
        old: &ResourceClaimTemplate,
    ) -> Vec<field::Error> {
        api::validation::resource_claim::template_update(new, old)
    }

    fn row(&self, object: &ResourceClaimTemplate) -> Vec<Value> {
        vec![columns::name(&object.metadata), columns::age(&object.metadata)]
    }
}
