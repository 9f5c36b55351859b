//! Leases.

use base_meta::field;
use k8s_openapi::api::coordination::v1::Lease;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("Holder", "Who holds it."), AGE];

pub struct LeaseStrategy;

impl Strategy for LeaseStrategy {
    type Object = Lease;

    fn def(&self) -> ResourceDef {
        define::resource::<Lease>("leases", "lease", COLUMNS)
    }

    fn validate(&self, _: &RequestContext, object: &Lease) -> Vec<field::Error> {
        api::validation::small::lease(object)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn row(&self, object: &Lease) -> Vec<Value> {
        let holder = object.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("");
        vec![columns::name(&object.metadata), json!(holder), columns::age(&object.metadata)]
    }
}
