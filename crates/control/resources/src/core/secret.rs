//! Secrets.

use base_meta::field;
use k8s_openapi::api::core::v1::Secret;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Type", "Which keys programs may expect in it."),
    columns::text("Data", "How many entries it has."),
    AGE,
];

pub struct SecretStrategy;

impl Strategy for SecretStrategy {
    type Object = Secret;

    fn def(&self) -> ResourceDef {
        ResourceDef { fields: &["type"], ..define::resource::<Secret>("secrets", "secret", COLUMNS) }
    }

    fn default(&self, object: &mut Secret) {
        api::defaults::secret(object);
    }

    fn prepare_for_update(&self, _: &RequestContext, new: &mut Secret, old: &Secret) {
        // The type is the creator's: an update that leaves it out keeps it.
        if new.type_.as_deref().is_none_or(str::is_empty) {
            new.type_.clone_from(&old.type_);
        }
    }

    fn validate(&self, _: &RequestContext, object: &Secret) -> Vec<field::Error> {
        api::validation::secret::secret(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &Secret, old: &Secret) -> Vec<field::Error> {
        api::validation::secret::secret_update(new, old)
    }

    fn selectable(&self, object: &Secret) -> Vec<(&'static str, String)> {
        vec![("type", object.type_.clone().unwrap_or_default())]
    }

    fn row(&self, object: &Secret) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.type_.as_deref().unwrap_or("")),
            json!(object.data.as_ref().map_or(0, |data| data.len())),
            columns::age(&object.metadata),
        ]
    }
}
