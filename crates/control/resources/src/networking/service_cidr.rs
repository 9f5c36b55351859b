//! ServiceCIDRs: the ranges that service addresses come from.

use base_meta::field;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use machinery_registry::{Column, RequestContext, ResourceDef, Scope, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("CIDRs", "Its ranges, at most one of each address family."), AGE];

pub struct ServiceCidrStrategy;

/// Whether addresses are given out of it.
pub(crate) fn is_ready(cidr: &ServiceCIDR) -> bool {
    let mut conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
    cidr.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Strategy for ServiceCidrStrategy {
    type Object = ServiceCIDR;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            scope: Scope::Cluster,
            subresources: vec![define::status::<ServiceCIDR>()],
            ..define::resource::<ServiceCIDR>("servicecidrs", "servicecidr", COLUMNS)
        }
    }

    fn validate(&self, _: &RequestContext, object: &ServiceCIDR) -> Vec<field::Error> {
        api::validation::ip_address::service_cidr(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ServiceCIDR, old: &ServiceCIDR) -> Vec<field::Error> {
        api::validation::ip_address::service_cidr_update(new, old)
    }

    fn row(&self, object: &ServiceCIDR) -> Vec<Value> {
        let cidrs = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
        vec![columns::name(&object.metadata), json!(cidrs.join(",")), columns::age(&object.metadata)]
    }
}
