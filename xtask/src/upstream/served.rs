//! The kinds that are served, each with its passage through the type that its strategy works on. A line per kind,
//! appended with the kind.

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A kind that is served, and its passage through the type that its strategy works on.
pub(super) struct Served {
    pub(super) name: &'static str,
    pub(super) typed: fn(Value) -> serde_json::Result<Value>,
}

fn typed<T: DeserializeOwned + Serialize>(value: Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

/// Kinds that are served today. Grows with the project.
pub(super) const SERVED: &[Served] = &[
    Served { name: "core.v1.Namespace", typed: typed::<core::Namespace> },
    Served { name: "core.v1.Node", typed: typed::<core::Node> },
    Served { name: "core.v1.Pod", typed: typed::<core::Pod> },
    Served { name: "core.v1.Service", typed: typed::<core::Service> },
    Served { name: "core.v1.Endpoints", typed: typed::<core::Endpoints> },
    Served { name: "core.v1.ConfigMap", typed: typed::<core::ConfigMap> },
    Served { name: "core.v1.Secret", typed: typed::<core::Secret> },
    Served { name: "core.v1.ServiceAccount", typed: typed::<core::ServiceAccount> },
    Served { name: "core.v1.Event", typed: typed::<core::Event> },
    Served { name: "core.v1.ReplicationController", typed: typed::<core::ReplicationController> },
    Served { name: "core.v1.PodTemplate", typed: typed::<core::PodTemplate> },
    Served { name: "core.v1.PersistentVolume", typed: typed::<core::PersistentVolume> },
    Served { name: "core.v1.PersistentVolumeClaim", typed: typed::<core::PersistentVolumeClaim> },
    Served { name: "core.v1.ResourceQuota", typed: typed::<core::ResourceQuota> },
    Served { name: "core.v1.LimitRange", typed: typed::<core::LimitRange> },
    Served { name: "core.v1.Binding", typed: typed::<core::Binding> },
    Served { name: "core.v1.ComponentStatus", typed: typed::<core::ComponentStatus> },
    Served { name: "apps.v1.StatefulSet", typed: typed::<apps::StatefulSet> },
    Served { name: "apps.v1.DaemonSet", typed: typed::<apps::DaemonSet> },
    Served { name: "apps.v1.ControllerRevision", typed: typed::<apps::ControllerRevision> },
    Served { name: "batch.v1.Job", typed: typed::<k8s_openapi::api::batch::v1::Job> },
    Served { name: "batch.v1.CronJob", typed: typed::<k8s_openapi::api::batch::v1::CronJob> },
    Served { name: "policy.v1.PodDisruptionBudget", typed: typed::<k8s_openapi::api::policy::v1::PodDisruptionBudget> },
    Served { name: "policy.v1.Eviction", typed: typed::<k8s_openapi::api::policy::v1::Eviction> },
    Served {
        name: "autoscaling.v1.HorizontalPodAutoscaler",
        typed: typed::<k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler>,
    },
    Served {
        name: "autoscaling.v2.HorizontalPodAutoscaler",
        typed: typed::<k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler>,
    },
    Served { name: "events.k8s.io.v1.Event", typed: typed::<k8s_openapi::api::events::v1::Event> },
    Served { name: "apps.v1.Deployment", typed: typed::<apps::Deployment> },
    Served { name: "apps.v1.ReplicaSet", typed: typed::<apps::ReplicaSet> },
    Served { name: "coordination.k8s.io.v1.Lease", typed: typed::<k8s_openapi::api::coordination::v1::Lease> },
    Served {
        name: "discovery.k8s.io.v1.EndpointSlice",
        typed: typed::<k8s_openapi::api::discovery::v1::EndpointSlice>,
    },
];
