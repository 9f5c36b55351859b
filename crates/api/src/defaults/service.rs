//! Services. `clusterIP(s)`, `ipFamilies`, `ipFamilyPolicy` and node ports are the allocators' to fill.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{pointer, text};
use crate::service::ServiceType;

/// Three hours, upstream's `DefaultClientIPServiceAffinitySeconds`.
const CLIENT_IP_AFFINITY_SECONDS: i32 = 10800;

pub fn service(service: &mut Service) {
    let Some(spec) = &mut service.spec else { return };
    text(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
        let client_ip = config.client_ip.get_or_insert_with(ClientIPConfig::default);
        pointer(&mut client_ip.timeout_seconds, CLIENT_IP_AFFINITY_SECONDS);
    } else if spec.session_affinity.as_deref() == Some("None") {
        spec.session_affinity_config = None;
    }
    text(&mut spec.type_, "ClusterIP");
    spec.ports.iter_mut().flatten().for_each(port);
    let kind = ServiceType::of(spec);
    if crate::service::externally_accessible(spec) {
        text(&mut spec.external_traffic_policy, "Cluster");
    }
    if matches!(kind, Some(ServiceType::ClusterIP | ServiceType::NodePort | ServiceType::LoadBalancer)) {
        pointer(&mut spec.internal_traffic_policy, "Cluster".to_owned());
    }
    if kind == Some(ServiceType::LoadBalancer) {
        pointer(&mut spec.allocate_load_balancer_node_ports, true);
        let ingress = service.status.as_mut().and_then(|status| status.load_balancer.as_mut());
        for ingress in ingress.into_iter().flat_map(|balancer| balancer.ingress.iter_mut().flatten()) {
            if ingress.ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
                pointer(&mut ingress.ip_mode, "VIP".to_owned());
            }
        }
    }
}

fn port(port: &mut ServicePort) {
    text(&mut port.protocol, "TCP");
    let unset = match &port.target_port {
        None => true,
        Some(IntOrString::Int(number)) => *number == 0,
        Some(IntOrString::String(name)) => name.is_empty(),
    };
    if unset {
        port.target_port = Some(IntOrString::Int(port.port));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn defaulted(spec: Value) -> Value {
        let mut object: Service = serde_json::from_value(json!({"spec": spec})).expect("a service");
        service(&mut object);
        serde_json::to_value(&object).expect("JSON")["spec"].clone()
    }

    #[test]
    fn a_plain_service() {
        assert_eq!(
            defaulted(json!({"ports": [{"port": 80}], "selector": {"run": "my-nginx"}})),
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "selector": {"run": "my-nginx"},
            })
        );
    }

    #[test]
    fn types_and_affinity() {
        let node_port = defaulted(json!({"type": "NodePort", "sessionAffinity": "ClientIP"}));
        assert_eq!(node_port["externalTrafficPolicy"], "Cluster");
        assert_eq!(node_port["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
        let balancer = defaulted(json!({"type": "LoadBalancer"}));
        assert_eq!(balancer["allocateLoadBalancerNodePorts"], true);
        let external = defaulted(json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(external["internalTrafficPolicy"], Value::Null);
    }
}
