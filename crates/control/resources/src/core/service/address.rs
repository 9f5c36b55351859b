//! Where the API server itself finds a Service: at its ClusterIP, as every other client on the node does.

use std::sync::{Arc, Weak};

use base_meta::Gvr;
use k8s_openapi::api::core::v1::Service;
use machinery_registry::{Registry, RequestContext};

use super::ServiceStrategy;

pub(crate) struct ServiceAddresses(pub(crate) Weak<Registry<ServiceStrategy>>);

#[async_trait::async_trait]
impl machinery_dial::Resolver for ServiceAddresses {
    async fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String> {
        let registry = self.0.upgrade().ok_or("the server is shutting down")?;
        let ctx = RequestContext {
            user: Arc::default(),
            gvr: Gvr::of("", "v1", "services"),
            subresource: None,
            namespace: Some(namespace.into()),
            warnings: Default::default(),
        };
        let service = registry.get_typed(&ctx, name).await.map_err(|status| match status.code {
            404 => format!("service {name:?} not found"),
            _ => status.message,
        })?;
        address(&service, name, port)
    }
}

/// With upstream's refusals.
fn address(service: &Service, name: &str, port: u16) -> Result<(String, u16), String> {
    let spec = service.spec.as_ref();
    let text = |field: Option<&String>| field.map(String::as_str).unwrap_or_default().to_owned();
    let kind = text(spec.and_then(|spec| spec.type_.as_ref()));
    let cluster_ip = text(spec.and_then(|spec| spec.cluster_ip.as_ref()));
    match kind.as_str() {
        "ExternalName" => Ok((text(spec.and_then(|spec| spec.external_name.as_ref())), port)),
        "ClusterIP" if cluster_ip == "None" => Err("cannot route to service with ClusterIP \"None\"".into()),
        "ClusterIP" | "NodePort" | "LoadBalancer" => {
            let mut ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
            match ports.any(|served| served.port == i32::from(port)) {
                true => Ok((cluster_ip, port)),
                false => Err(format!("no service port {port} found for service {name:?}")),
            }
        }
        other => Err(format!("unsupported service type {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_type() {
        let at = |spec: serde_json::Value| {
            address(&serde_json::from_value(json!({ "spec": spec })).expect("a service"), "s", 443)
        };
        let ports = json!([{"port": 443}]);
        let good = at(json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": ports}));
        assert_eq!(good, Ok(("10.43.0.9".into(), 443)));
        let external = at(json!({"type": "ExternalName", "externalName": "example.com"}));
        assert_eq!(external, Ok(("example.com".into(), 443)));
        for (spec, said) in [
            (json!({"type": "ClusterIP", "clusterIP": "None"}), "cannot route to service with ClusterIP \"None\""),
            (json!({"type": "ClusterIP", "clusterIP": "10.43.0.9"}), "no service port 443 found for service \"s\""),
            (json!({"type": "Other"}), "unsupported service type \"Other\""),
        ] {
            assert_eq!(at(spec), Err(said.to_owned()));
        }
    }
}
