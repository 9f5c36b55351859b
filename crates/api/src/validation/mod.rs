//! Whether an object makes sense: upstream's `pkg/apis/*/validation`, rule by rule, with its paths and messages.
//!
//! Pure. `metadata` itself is the registry's to check; every function here answers with all the problems it finds,
//! in upstream's order. `*_update` also compares with the stored object.

pub mod admission_policy;
pub mod admission_rules;
pub mod api_service;
pub mod autoscaler;
pub mod config;
pub mod container;
pub mod cron_job;
pub mod csi;
pub mod custom_resource_definition;
pub mod daemon_set;
pub mod device;
pub mod endpoint_slice;
pub mod endpoints;
pub mod env;
pub mod flow_schema;
pub mod formats;
pub mod ingress;
pub mod ip_address;
pub mod job;
pub mod job_policies;
pub mod job_status;
pub mod labels;
pub mod limit_range;
pub mod network_policy;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_disruption_budget;
pub mod pod_spec;
pub mod pod_subresources;
pub mod pod_update;
pub mod priority_class;
pub mod priority_level;
pub mod probe;
pub mod rbac;
pub mod replication_controller;
pub mod resource_claim;
pub mod resource_claim_status;
pub mod resource_quota;
pub mod resource_slice;
pub mod resources;
pub mod runtime_class;
pub mod secret;
pub mod segments;
pub mod service;
pub mod service_addresses;
pub mod service_update;
pub mod signing_request;
pub mod small;
pub mod stateful_set;
pub mod storage;
pub mod structural_schema;
pub mod volume;
pub mod volume_attachment;
pub mod webhook;
pub mod workload;

use base_meta::field;
use serde::Serialize;
use serde_json::Value;

/// All the problems found.
pub type Errors = Vec<field::Error>;

/// `Invalid` or `Duplicate` errors print structures as JSON.
fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// A Go string: absent reads as empty.
fn said(slot: &Option<String>) -> &str {
    slot.as_deref().unwrap_or("")
}

/// Upstream's `ValidateImmutableField`.
fn immutable<T: Serialize>(new: &T, old: &T, path: &field::Path, errors: &mut Errors) {
    let (new, old) = (normal(json(new)), normal(json(old)));
    if new != old {
        errors.push(field::Error::invalid(path, &new, "field is immutable"));
    }
}

/// Semantic equality: null, empty lists and empty maps are what an absent field is.
fn normal(mut value: Value) -> Value {
    let blank = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match &mut value {
        Value::Object(fields) => {
            let taken = std::mem::take(fields);
            fields
                .extend(taken.into_iter().map(|(key, field)| (key, normal(field))).filter(|(_, field)| !blank(field)));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = normal(item.take())),
        _ => {}
    }
    value
}

#[cfg(test)]
mod testing;
