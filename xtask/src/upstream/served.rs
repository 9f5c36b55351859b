//! The kinds that are served, each with its passage through the type that its strategy works on. A line per kind,
//! appended with the kind.

use k8s_openapi::api::{
    admissionregistration::v1 as admissionregistration, certificates::v1 as certificates,
    flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node, resource::v1 as resource,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
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
    Served { name: "networking.k8s.io.v1.Ingress", typed: typed::<networking::Ingress> },
    Served { name: "networking.k8s.io.v1.IngressClass", typed: typed::<networking::IngressClass> },
    Served { name: "networking.k8s.io.v1.NetworkPolicy", typed: typed::<networking::NetworkPolicy> },
    Served { name: "networking.k8s.io.v1.IPAddress", typed: typed::<networking::IPAddress> },
    Served { name: "networking.k8s.io.v1.ServiceCIDR", typed: typed::<networking::ServiceCIDR> },
    Served { name: "storage.k8s.io.v1.StorageClass", typed: typed::<storage::StorageClass> },
    Served { name: "storage.k8s.io.v1.VolumeAttachment", typed: typed::<storage::VolumeAttachment> },
    Served { name: "storage.k8s.io.v1.CSIDriver", typed: typed::<storage::CSIDriver> },
    Served { name: "storage.k8s.io.v1.CSINode", typed: typed::<storage::CSINode> },
    Served { name: "storage.k8s.io.v1.CSIStorageCapacity", typed: typed::<storage::CSIStorageCapacity> },
    Served { name: "storage.k8s.io.v1.VolumeAttributesClass", typed: typed::<storage::VolumeAttributesClass> },
    Served { name: "scheduling.k8s.io.v1.PriorityClass", typed: typed::<scheduling::PriorityClass> },
    Served { name: "node.k8s.io.v1.RuntimeClass", typed: typed::<node::RuntimeClass> },
    Served {
        name: "certificates.k8s.io.v1.CertificateSigningRequest",
        typed: typed::<certificates::CertificateSigningRequest>,
    },
    Served { name: "flowcontrol.apiserver.k8s.io.v1.FlowSchema", typed: typed::<flowcontrol::FlowSchema> },
    Served {
        name: "flowcontrol.apiserver.k8s.io.v1.PriorityLevelConfiguration",
        typed: typed::<flowcontrol::PriorityLevelConfiguration>,
    },
    Served { name: "resource.k8s.io.v1.ResourceClaim", typed: typed::<resource::ResourceClaim> },
    Served { name: "resource.k8s.io.v1.ResourceClaimTemplate", typed: typed::<resource::ResourceClaimTemplate> },
    Served { name: "resource.k8s.io.v1.DeviceClass", typed: typed::<resource::DeviceClass> },
    Served { name: "resource.k8s.io.v1.ResourceSlice", typed: typed::<resource::ResourceSlice> },
    Served {
        name: "admissionregistration.k8s.io.v1.ValidatingWebhookConfiguration",
        typed: typed::<admissionregistration::ValidatingWebhookConfiguration>,
    },
    Served {
        name: "admissionregistration.k8s.io.v1.MutatingWebhookConfiguration",
        typed: typed::<admissionregistration::MutatingWebhookConfiguration>,
    },
    Served {
        name: "admissionregistration.k8s.io.v1.ValidatingAdmissionPolicy",
        typed: typed::<admissionregistration::ValidatingAdmissionPolicy>,
    },
    Served {
        name: "admissionregistration.k8s.io.v1.ValidatingAdmissionPolicyBinding",
        typed: typed::<admissionregistration::ValidatingAdmissionPolicyBinding>,
    },
    Served {
        name: "admissionregistration.k8s.io.v1.MutatingAdmissionPolicy",
        typed: typed::<admissionregistration::MutatingAdmissionPolicy>,
    },
    Served {
        name: "admissionregistration.k8s.io.v1.MutatingAdmissionPolicyBinding",
        typed: typed::<admissionregistration::MutatingAdmissionPolicyBinding>,
    },
];
