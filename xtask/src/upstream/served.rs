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
    Served { name: "apps.v1.Deployment", typed: typed::<apps::Deployment> },
    Served { name: "apps.v1.ReplicaSet", typed: typed::<apps::ReplicaSet> },
    Served { name: "coordination.k8s.io.v1.Lease", typed: typed::<k8s_openapi::api::coordination::v1::Lease> },
    Served {
        name: "discovery.k8s.io.v1.EndpointSlice",
        typed: typed::<k8s_openapi::api::discovery::v1::EndpointSlice>,
    },
];
