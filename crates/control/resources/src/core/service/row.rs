//! What `kubectl get services` prints.

use api::service::ServiceType;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use machinery_registry::Column;
use serde_json::{Value, json};

use crate::columns::{self, AGE, NAME, or_none};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    columns::text("Type", "Who can reach it, and how."),
    columns::text("Cluster-IP", "Its address inside the cluster."),
    columns::text("External-IP", "Its addresses for the outside."),
    columns::text("Port(s)", "Its ports, and where it has them the node ports."),
    AGE,
    columns::wide("Selector", "Which pods it sends to."),
];

pub(super) fn row(service: &Service) -> Vec<Value> {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    vec![
        columns::name(&service.metadata),
        json!(spec.type_.as_deref().unwrap_or("")),
        json!(or_none(spec.cluster_ips.as_ref().and_then(|ips| ips.first()).map(String::as_str))),
        json!(external(service, spec)),
        json!(ports(spec)),
        columns::age(&service.metadata),
        columns::pairs(spec.selector.as_ref()),
    ]
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let listed = spec.external_ips.clone().unwrap_or_default();
    match ServiceType::of(spec) {
        Some(ServiceType::ClusterIP | ServiceType::NodePort) => or_none(Some(&listed.join(","))).to_owned(),
        Some(ServiceType::ExternalName) => spec.external_name.clone().unwrap_or_default(),
        Some(ServiceType::LoadBalancer) => {
            let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
            let address = |each: &k8s_openapi::api::core::v1::LoadBalancerIngress| {
                each.ip.clone().filter(|ip| !ip.is_empty()).or_else(|| each.hostname.clone())
            };
            let given: Vec<String> = ingress.filter_map(address).chain(listed).collect();
            if given.is_empty() { "<pending>".to_owned() } else { given.join(",") }
        }
        None => "<unknown>".to_owned(),
    }
}

fn ports(spec: &ServiceSpec) -> String {
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        match port.node_port.filter(|port| *port > 0) {
            Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
            None => format!("{}/{protocol}", port.port),
        }
    };
    or_none(Some(&spec.ports.iter().flatten().map(port).collect::<Vec<_>>().join(","))).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(spec: Value, status: Value) -> Vec<String> {
        let service = serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec, "status": status}));
        let row = row(&service.expect("a service"));
        assert_eq!(row.len(), COLUMNS.len());
        [1, 2, 3, 4, 6].iter().map(|index| row[*index].as_str().expect("text").to_owned()).collect()
    }

    #[test]
    fn types() {
        assert_eq!(
            printed(
                json!({"type": "ClusterIP", "clusterIPs": ["10.43.0.7"], "selector": {"run": "my-nginx"},
                    "ports": [{"port": 80, "protocol": "TCP"}]}),
                json!({})
            ),
            ["ClusterIP", "10.43.0.7", "<none>", "80/TCP", "run=my-nginx"]
        );
        assert_eq!(
            printed(
                json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}),
                json!({})
            ),
            ["NodePort", "<none>", "<none>", "80:30080/TCP,53/UDP", "<none>"]
        );
        assert_eq!(printed(json!({"type": "LoadBalancer"}), json!({}))[2], "<pending>");
        let given = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.b"}]}});
        assert_eq!(printed(json!({"type": "LoadBalancer"}), given)[2], "1.2.3.4,a.b");
        assert_eq!(printed(json!({"type": "ExternalName", "externalName": "a.b"}), json!({}))[2], "a.b");
    }
}
