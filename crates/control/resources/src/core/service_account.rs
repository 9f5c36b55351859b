//! ServiceAccounts.

use base_meta::{Gvk, field};
use k8s_openapi::api::core::v1::ServiceAccount;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy, Verb};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Secrets", "How many secrets its pods may use."), AGE];

pub struct ServiceAccountStrategy;

impl Strategy for ServiceAccountStrategy {
    type Object = ServiceAccount;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            short_names: &["sa"],
            subresources: vec![define::subresource(
                "token",
                Gvk::of("authentication.k8s.io", "v1", "TokenRequest"),
                &[Verb::Create],
            )],
            ..define::resource::<ServiceAccount>("serviceaccounts", "serviceaccount", COLUMNS)
        }
    }

    fn validate(&self, _: &RequestContext, object: &ServiceAccount) -> Vec<field::Error> {
        api::validation::small::service_account(object)
    }

    fn row(&self, object: &ServiceAccount) -> Vec<Value> {
        vec![
            columns::name(&object.metadata),
            json!(object.secrets.as_ref().map_or(0, Vec::len)),
            columns::age(&object.metadata),
        ]
    }
}
