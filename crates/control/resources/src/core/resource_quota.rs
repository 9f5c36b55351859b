//! ResourceQuotas.

use base_meta::field;
use k8s_openapi::api::core::v1::ResourceQuota;
use machinery_registry::{Column, RequestContext, ResourceDef, Strategy};
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME};
use crate::define;

const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Request", "What is used of what may be."),
    columns::text("Limit", "The same of limits."),
    AGE,
];

pub struct ResourceQuotaStrategy;

impl Strategy for ResourceQuotaStrategy {
    type Object = ResourceQuota;

    fn def(&self) -> ResourceDef {
        ResourceDef {
            answers_deleted: true,
            short_names: &["quota"],
            subresources: vec![define::status::<ResourceQuota>()],
            ..define::resource::<ResourceQuota>("resourcequotas", "resourcequota", COLUMNS)
        }
    }

    fn validate(&self, _: &RequestContext, object: &ResourceQuota) -> Vec<field::Error> {
        api::validation::resource_quota::resource_quota(object)
    }

    fn validate_update(&self, _: &RequestContext, new: &ResourceQuota, old: &ResourceQuota) -> Vec<field::Error> {
        api::validation::resource_quota::resource_quota_update(new, old)
    }

    fn validate_status_update(&self, _: &RequestContext, new: &ResourceQuota, _: &ResourceQuota) -> Vec<field::Error> {
        api::validation::resource_quota::resource_quota_status(new)
    }

    fn row(&self, object: &ResourceQuota) -> Vec<Value> {
        let status = object.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in status.hard.into_iter().flatten() {
            let used = used.get(&name).map_or("0", |used| used.0.as_str());
            let text = format!("{name}: {used}/{}", hard.0);
            if name.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
        }
        vec![
            columns::name(&object.metadata),
            json!(requests.join(", ")),
            json!(limits.join(", ")),
            columns::age(&object.metadata),
        ]
    }
}
