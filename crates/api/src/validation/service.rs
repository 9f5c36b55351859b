//! Services: ports, type and policies. Addresses are in [`super::service_addresses`].

use std::collections::BTreeSet;

use base_meta::field::{BadValue, Error, Path};
use base_meta::names;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::container::one_of;
use super::{Errors, formats, labels, said, service_addresses};
use crate::service::{ServiceType, externally_accessible, is_headless, needs_health_check_node_port};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// Upstream's `MaxClientIPServiceAffinitySeconds`: a day.
const MAX_AFFINITY_SECONDS: i32 = 86400;

/// After defaulting and allocation.
pub fn service(service: &Service) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let kind = ServiceType::of(spec);
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && kind != Some(ServiceType::ExternalName) {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    by_type(spec, kind, &path, &mut errors);
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        service_port(port, ports.len() > 1, &mut names, &path.child("ports").index(index), &mut errors);
    }
    labels::labels(spec.selector.as_ref(), &path.child("selector"), &mut errors);
    affinity(spec, &path, &mut errors);
    service_addresses::cluster_ips(spec, &path, &mut errors);
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        for problem in formats::reachable_ip(ip) {
            errors.push(Error::invalid(&path.child("externalIPs").index(index), ip, problem));
        }
    }
    if kind.is_none() {
        let types = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        errors.push(Error::not_supported(&path.child("type"), said(&spec.type_), types));
    }
    port_conflicts(spec, kind, &path.child("ports"), &mut errors);
    load_balancer(spec, kind, &path, &mut errors);
    traffic_policies(spec, kind, &path, &mut errors);
    errors
}

fn by_type(spec: &ServiceSpec, kind: Option<ServiceType>, path: &Path, errors: &mut Errors) {
    let not_headless = |name: &str, errors: &mut Errors| {
        if is_headless(spec) {
            errors.push(Error::invalid(
                &path.child("clusterIPs").index(0),
                "None",
                format!("may not be set to 'None' for {name} services"),
            ));
        }
    };
    match kind {
        Some(ServiceType::LoadBalancer) => {
            // The node's own API must stay out of reach of the outside.
            for (index, port) in spec.ports.iter().flatten().enumerate().filter(|(_, port)| port.port == 10250) {
                errors.push(Error::invalid(
                    &path.child("ports").index(index),
                    port.port,
                    format!("may not expose port {} externally since it is used by kubelet", port.port),
                ));
            }
            not_headless("LoadBalancer", errors);
        }
        Some(ServiceType::NodePort) => not_headless("NodePort", errors),
        Some(ServiceType::ExternalName) => {
            if spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
                errors.push(Error::forbidden(&path.child("clusterIPs"), "may not be set for ExternalName services"));
            }
            let name = said(&spec.external_name);
            if name.is_empty() {
                errors.push(Error::required(&path.child("externalName"), ""));
            } else {
                let bare = name.strip_suffix('.').unwrap_or(name);
                formats::invalid(&path.child("externalName"), name, names::dns1123_subdomain(bare), errors);
            }
        }
        Some(ServiceType::ClusterIP) | None => {}
    }
}

fn service_port(port: &ServicePort, named: bool, names: &mut BTreeSet<String>, path: &Path, errors: &mut Errors) {
    let name = said(&port.name);
    if named && name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    } else if !name.is_empty() {
        formats::invalid(&path.child("name"), name, names::dns1123_label(name), errors);
        if !names.insert(name.to_owned()) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
    }
    formats::port_number(port.port, &path.child("port"), errors);
    one_of(said(&port.protocol), PROTOCOLS, errors, || path.child("protocol"));
    let unset = IntOrString::Int(0);
    formats::port_number_or_name(port.target_port.as_ref().unwrap_or(&unset), &path.child("targetPort"), errors);
    if let Some(protocol) = &port.app_protocol {
        formats::invalid(&path.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
    }
}

fn affinity(spec: &ServiceSpec, path: &Path, errors: &mut Errors) {
    let affinity = said(&spec.session_affinity);
    one_of(affinity, &["ClientIP", "None"], errors, || path.child("sessionAffinity"));
    let path = path.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        ("ClientIP", config) => {
            let seconds = config.as_ref().and_then(|config| config.client_ip.as_ref()).map(|ip| ip.timeout_seconds);
            match seconds {
                None => errors.push(Error::required(&path, "when session affinity type is ClientIP")),
                Some(None) => errors.push(Error::required(
                    &path.child("clientIP").child("timeoutSeconds"),
                    "when session affinity type is ClientIP",
                )),
                Some(Some(seconds)) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => errors.push(Error::invalid(
                    &path.child("clientIP").child("timeoutSeconds"),
                    seconds,
                    format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}"),
                )),
                Some(Some(_)) => {}
            }
        }
        ("None", Some(_)) => {
            errors.push(Error::forbidden(&path, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn port_conflicts(spec: &ServiceSpec, kind: Option<ServiceType>, path: &Path, errors: &mut Errors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node_port = |port: &ServicePort| port.node_port.unwrap_or(0);
    if matches!(kind, Some(ServiceType::ClusterIP | ServiceType::ExternalName)) {
        let name = if kind == Some(ServiceType::ClusterIP) { "ClusterIP" } else { "ExternalName" };
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
            let message = format!("may not be used when `type` is '{name}'");
            errors.push(Error::forbidden(&path.index(index).child("nodePort"), message));
        }
    }
    let mut node_ports = BTreeSet::new();
    for (index, port) in ports.iter().enumerate().filter(|(_, port)| node_port(port) != 0) {
        let number = node_port(port);
        if !(0..=65535).contains(&number) {
            formats::port_number(number, &path.index(index).child("nodePort"), errors);
        } else if !node_ports.insert((said(&port.protocol), number)) {
            errors.push(Error::duplicate(&path.index(index).child("nodePort"), number));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((said(&port.protocol), port.port)) {
            // Upstream prints the key it compares: its internal port with these two fields set.
            let key = format!(
                r#"{{"Name":"","Protocol":{:?},"AppProtocol":null,"Port":{},"TargetPort":0,"NodePort":0}}"#,
                said(&port.protocol),
                port.port
            );
            errors.push(Error::duplicate(&path.index(index), BadValue::json(key)));
        }
    }
}

fn load_balancer(spec: &ServiceSpec, kind: Option<ServiceType>, path: &Path, errors: &mut Errors) {
    let is_balancer = kind == Some(ServiceType::LoadBalancer);
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let ranges_path = path.child("loadBalancerSourceRanges");
    if !is_balancer && !ranges.is_empty() {
        errors.push(Error::forbidden(&ranges_path, "may only be used when `type` is 'LoadBalancer'"));
    }
    for (index, range) in ranges.iter().enumerate() {
        if let Some(problem) = formats::cidr(range.trim()) {
            errors.push(Error::invalid(&ranges_path.index(index), range, problem));
        }
    }
    match (is_balancer, spec.allocate_load_balancer_node_ports) {
        (true, None) => errors.push(Error::required(&path.child("allocateLoadBalancerNodePorts"), "")),
        (false, Some(_)) => errors.push(Error::forbidden(
            &path.child("allocateLoadBalancerNodePorts"),
            "may only be used when `type` is 'LoadBalancer'",
        )),
        _ => {}
    }
    if let Some(class) = &spec.load_balancer_class {
        let path = path.child("loadBalancerClass");
        if is_balancer {
            formats::invalid(&path, class, names::qualified_name(class), errors);
        } else {
            errors.push(Error::forbidden(&path, "may only be used when `type` is 'LoadBalancer'"));
        }
    }
}

fn traffic_policies(spec: &ServiceSpec, kind: Option<ServiceType>, path: &Path, errors: &mut Errors) {
    let policies = &["Cluster", "Local"];
    let external = said(&spec.external_traffic_policy);
    if externally_accessible(spec) {
        one_of(external, policies, errors, || path.child("externalTrafficPolicy"));
    } else if !external.is_empty() {
        errors.push(Error::invalid(
            &path.child("externalTrafficPolicy"),
            external,
            "may only be set for externally-accessible services",
        ));
    }
    let health = spec.health_check_node_port.unwrap_or(0);
    if health != 0 && !needs_health_check_node_port(spec) {
        errors.push(Error::invalid(
            &path.child("healthCheckNodePort"),
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
    let has_internal = !matches!(kind, Some(ServiceType::ExternalName) | None);
    match &spec.internal_traffic_policy {
        None if has_internal => errors.push(Error::required(&path.child("internalTrafficPolicy"), "")),
        Some(policy) if !policies.contains(&policy.as_str()) => {
            errors.push(Error::not_supported(&path.child("internalTrafficPolicy"), policy, policies));
        }
        _ => {}
    }
    if let Some(preference) = &spec.traffic_distribution {
        let supported = &["PreferClose", "PreferSameNode", "PreferSameZone"];
        if !supported.contains(&preference.as_str()) {
            errors.push(Error::not_supported(&path.child("trafficDistribution"), preference, supported));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing::{object, printed, with};
    use serde_json::json;

    use super::*;

    fn problems(changes: &[(&str, Value)]) -> Vec<String> {
        let base = json!({"metadata": {"name": "my-nginx"}, "spec": {
            "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"run": "my-nginx"}}});
        let mut made: Service = object(with(&base, changes));
        crate::defaults::service(&mut made);
        printed(service(&made))
    }

    #[test]
    fn each_rule_names_its_field() {
        let table = [
            ("/spec/ports", json!([]), "spec.ports: Required value"),
            (
                "/spec/ports",
                json!([{"port": 0}]),
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                "/spec/ports",
                json!([{"port": 65536, "targetPort": 1}]),
                "spec.ports[0].port: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ),
            ("/spec/ports", json!([{"port": 80}, {"port": 81}]), "spec.ports[0].name: Required value"),
            (
                "/spec/ports",
                json!([{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
                "spec.ports[1].name: Duplicate value: \"a\"",
            ),
            (
                "/spec/ports",
                json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
                "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
            ),
            (
                "/spec/ports",
                json!([{"name": "A_b", "port": 80}]),
                "spec.ports[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must",
            ),
            (
                "/spec/ports",
                json!([{"port": 80, "protocol": "HTTP"}]),
                "spec.ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                "/spec/ports",
                json!([{"port": 80, "targetPort": "a--b"}]),
                "spec.ports[0].targetPort: Invalid value: \"a--b\": must not contain consecutive hyphens",
            ),
            (
                "/spec/ports",
                json!([{"port": 80, "nodePort": 30000}]),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            ("/spec/selector", json!({"a b": "c"}), "spec.selector: Invalid value: \"a b\""),
            (
                "/spec/sessionAffinity",
                json!("Cookie"),
                "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
            ),
            (
                "/spec/type",
                json!("Magic"),
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ),
            ("/spec/type", json!("ExternalName"), "spec.externalName: Required value"),
            (
                "/spec/clusterIP",
                json!("nonsense"),
                "spec.clusterIPs[0]: Invalid value: \"nonsense\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                "/spec/externalIPs",
                json!(["127.0.0.1"]),
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "/spec/externalTrafficPolicy",
                json!("Local"),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                "/spec/internalTrafficPolicy",
                json!("Near"),
                "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
            ),
            (
                "/spec/loadBalancerSourceRanges",
                json!(["10.0.0.0/8"]),
                "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            (
                "/spec/allocateLoadBalancerNodePorts",
                json!(true),
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
            ("/spec/healthCheckNodePort", json!(1), "spec.healthCheckNodePort: Invalid value: 1: may only be set when"),
            (
                "/spec/trafficDistribution",
                json!("Far"),
                "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ),
            (
                "/spec/ipFamilyPolicy",
                json!("Some"),
                "spec.ipFamilyPolicy: Unsupported value: \"Some\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ),
        ];
        assert_eq!(problems(&[]), Vec::<String>::new());
        for (pointer, value, expected) in table {
            let mut changes = vec![(pointer, value.clone())];
            if pointer == "/spec/clusterIP" {
                changes.push(("/spec/clusterIPs", json!([value])));
            }
            let found = problems(&changes);
            assert!(found.first().is_some_and(|first| first.starts_with(expected)), "{pointer} = {value}: {found:?}");
        }
    }

    #[test]
    fn combinations() {
        assert_eq!(problems(&[("/spec/ports", Value::Null), ("/spec/clusterIP", json!("None"))]), Vec::<String>::new());
        assert_eq!(
            problems(&[
                ("/spec/type", json!("NodePort")),
                ("/spec/clusterIP", json!("None")),
                ("/spec/clusterIPs", json!(["None"])),
            ]),
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"]
        );
        assert_eq!(
            problems(&[
                ("/spec/sessionAffinity", json!("ClientIP")),
                ("/spec/sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 0}})),
            ]),
            ["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less \
                 than 86400"]
        );
    }
}
