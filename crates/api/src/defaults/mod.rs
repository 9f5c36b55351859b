//! What the API fills in where a user left a field out: upstream's `pkg/apis/*/v1/defaults.go`.
//!
//! Pure and idempotent: the registry runs it on every decode. A Go field that is no pointer is unset when it holds
//! its zero value, so `""` and `0` count as absent in [`text`] and [`number`], and only `None` does in [`pointer`].

pub mod admission;
pub mod api_service;
pub mod autoscaling;
pub mod batch;
pub mod container;
pub mod controllers;
pub mod core;
pub mod custom_resource_definition;
pub mod dynamic_resources;
pub mod endpoints;
pub mod flowcontrol;
pub mod limit_range;
pub mod networking;
pub mod persistent_volume;
pub mod pod;
pub mod rbac;
pub mod scheduling;
pub mod service;
pub mod storage;
pub mod volume;
pub mod workload;

pub use self::core::{namespace, node, secret};
pub use admission::{
    mutating_binding, mutating_policy, mutating_webhooks, validating_binding, validating_policy, validating_webhooks,
};
pub use api_service::api_service;
pub use autoscaling::horizontal_pod_autoscaler;
pub use batch::{cron_job, job};
pub use controllers::{daemon_set, replication_controller, stateful_set, stored_pod_template};
pub use custom_resource_definition::custom_resource_definition;
pub use dynamic_resources::{resource_claim, resource_claim_template, resource_slice};
pub use endpoints::{endpoint_slice, endpoints};
pub use flowcontrol::{flow_schema, priority_level};
pub use limit_range::limit_range;
pub use networking::{ingress_class, network_policy};
pub use persistent_volume::{persistent_volume, persistent_volume_claim};
pub use pod::{pod, pod_template};
pub use scheduling::priority_class;
pub use service::service;
pub use storage::{csi_driver, storage_class};
pub use workload::{deployment, replica_set};

/// A Go `string`.
fn text(slot: &mut Option<String>, value: &str) {
    if slot.as_deref().is_none_or(str::is_empty) {
        *slot = Some(value.to_owned());
    }
}

/// A Go `int32` or `int64`.
fn number<T: Default + PartialEq + Copy>(slot: &mut Option<T>, value: T) {
    if slot.is_none_or(|present| present == T::default()) {
        *slot = Some(value);
    }
}

/// A Go pointer: an explicit zero stays.
fn pointer<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}
