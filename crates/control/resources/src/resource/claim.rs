//! ResourceClaims.

use base_meta::field;
use k8s_openapi::api::resource::v1::ResourceClaim;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[NAME, columns::text("State", "How far its allocation is."), AGE];

pub struct ResourceClaimStrategy;

impl Strategy for ResourceClaimStrategy {
    type Object = ResourceClaim;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            subresources: vec![define::status::<ResourceClaim>()],
            answers_deleted: true,
            ..define::resource::<ResourceClaim>("resourceclaims", "resourceclaim", COLUMNS)
        }
    }

    fn default(&self, object: &mut ResourceClaim) {
        api::defaults::resource_claim(object);
    }

    fn validate(&self, _: &RequestContext, object: &ResourceClaim) -> Vec<field::Error> {
        api::validation::resource_claim::claim(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ResourceClaim, old: &ResourceClaim) -> Vec<field::Error> {
        api::validation::resource_claim::claim_update(new, old)
    }

    fn validate_status_update(
        &self,
        _: &RequestContext,
        new: &ResourceClaim,
        old: &ResourceClaim,
    ) -> Vec<field::Error> {
        api::validation::resource_claim_status::status_update(new, old)
    }

    fn row(&self, object: &ResourceClaim) -> Vec<Value> {
        vec![columns::name(&object.metadata), json!(state(object)), columns::age(&object.metadata)]
    }
}

fn state(claim: &ResourceClaim) -> String {
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.as_ref();
    let allocated = status.is_some_and(|status| status.allocation.is_some());
    let reserved = status.and_then(|status| status.reserved_for.as_ref()).is_some_and(|list| !list.is_empty());
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    states.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_as_upstreams() {
        let table = [
            (json!({}), "pending"),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), "deleted"),
            (json!({"status": {"allocation": {}}}), "allocated"),
            (json!({"status": {"allocation": {}, "reservedFor": [{"name": "p"}]}}), "allocated,reserved"),
        ];
        for (value, expected) in table {
            let claim: ResourceClaim = serde_json::from_value(value).expect("a claim");
            assert_eq!(state(&claim), expected);
        }
    }
}
