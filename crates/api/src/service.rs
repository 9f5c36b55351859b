//! Facts of Services that the allocators, validation, controllers and the node share.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl ServiceType {
    /// `None` for a type the API does not know; an absent one is ClusterIP.
    pub fn of(spec: &ServiceSpec) -> Option<Self> {
        match spec.type_.as_deref() {
            None | Some("" | "ClusterIP") => Some(Self::ClusterIP),
            Some("NodePort") => Some(Self::NodePort),
            Some("LoadBalancer") => Some(Self::LoadBalancer),
            Some("ExternalName") => Some(Self::ExternalName),
            Some(_) => None,
        }
    }
}

/// Whether the service has, or is to get, an address of its own: every type but ExternalName.
pub fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    !matches!(ServiceType::of(spec), Some(ServiceType::ExternalName) | None)
}

pub fn needs_node_ports(spec: &ServiceSpec) -> bool {
    match ServiceType::of(spec) {
        Some(ServiceType::NodePort) => true,
        Some(ServiceType::LoadBalancer) => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// Whether traffic from outside the cluster can reach it, so that `externalTrafficPolicy` means something.
pub fn externally_accessible(spec: &ServiceSpec) -> bool {
    match ServiceType::of(spec) {
        Some(ServiceType::NodePort | ServiceType::LoadBalancer) => true,
        Some(ServiceType::ClusterIP) => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

/// A load balancer that sends only to nodes with an endpoint asks them on a port of its own.
pub fn needs_health_check_node_port(spec: &ServiceSpec) -> bool {
    ServiceType::of(spec) == Some(ServiceType::LoadBalancer) && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The field's text; empty while none is allocated.
pub fn cluster_ip(spec: &ServiceSpec) -> &str {
    spec.cluster_ip.as_deref().unwrap_or("")
}

/// `clusterIP: None`: the name resolves to the pods themselves.
pub fn is_headless(spec: &ServiceSpec) -> bool {
    cluster_ip(spec) == "None"
}

/// Whether a virtual address is allocated.
pub fn has_virtual_ip(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| !matches!(cluster_ip(spec), "" | "None"))
}
