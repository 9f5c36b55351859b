//! The decoders of kinds that more than one crate reads, compiled here: what generic functions become is shared along
//! dependencies where both sides are compiled for size, so crates above take these instead of compiling their own.

use base_meta::{decode, decode_value};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, NetworkPolicy, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Result;

fn is<T: serde::de::DeserializeOwned>(text: &str) -> Result<()> {
    serde_json::from_str::<T>(text).map(drop)
}

macro_rules! decoders {
    ($($kind:ident),* $(,)?) => {
        /// Each kind's name, and whether a text is one.
        pub static DECODERS: &[(&str, fn(&str) -> Result<()>)] = &[$((stringify!($kind), is::<$kind>)),*];
    };
}

decoders!(
    CertificateSigningRequest,
    ClusterRole,
    ClusterRoleBinding,
    ConfigMap,
    ControllerRevision,
    CronJob,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Endpoints,
    Event,
    HorizontalPodAutoscaler,
    IPAddress,
    Job,
    Lease,
    LimitRange,
    MutatingWebhookConfiguration,
    Namespace,
    NetworkPolicy,
    Node,
    ObjectMeta,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    PodSpec,
    ReplicaSet,
    ReplicationController,
    ResourceQuota,
    Role,
    RoleBinding,
    Secret,
    Service,
    ServiceAccount,
    ServiceCIDR,
    StatefulSet,
    StorageClass,
    ValidatingAdmissionPolicy,
    ValidatingWebhookConfiguration,
    VolumeAttributesClass,
);

/// # Errors
/// What is no Pod.
pub fn pod(json: &[u8]) -> Result<Pod> {
    decode(json)
}

/// The spec of a pod as admission sees it; none is an empty one.
///
/// # Errors
/// What is no spec.
pub fn pod_spec(pod: &serde_json::Value) -> Result<PodSpec> {
    pod.get("spec").map_or_else(|| Ok(PodSpec::default()), decode_value)
}
