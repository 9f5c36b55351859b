//! The environment variables that tell a container about the services that existed before it:
//! `{NAME}_SERVICE_HOST` and the Docker-links set, as upstream's `pkg/kubelet/envvars`.

use k8s_openapi::api::core::v1::Service;

/// A service's name as an environment variable's prefix: `my-nginx` → `MY_NGINX`.
pub fn prefix(service_name: &str) -> String {
    service_name.to_ascii_uppercase().replace('-', "_")
}

/// Variables of one service in upstream's order; empty for a service without a virtual address.
pub fn variables(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = service.spec.as_ref().filter(|_| crate::service::has_virtual_ip(service)) else {
        return Vec::new();
    };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else { return Vec::new() };
    let prefix = prefix(service.metadata.name.as_deref().unwrap_or(""));
    let host = crate::service::cluster_ip(spec);
    let mut all = vec![
        (format!("{prefix}_SERVICE_HOST"), host.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), ports[0].port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            all.push((format!("{prefix}_SERVICE_PORT_{}", self::prefix(name)), port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
        let address = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("{}://{address}:{}", protocol.to_ascii_lowercase(), port.port);
        if index == 0 {
            all.push((format!("{prefix}_PORT"), url.clone()));
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
        all.push((link.clone(), url));
        all.push((format!("{link}_PROTO"), protocol.to_ascii_lowercase()));
        all.push((format!("{link}_PORT"), port.port.to_string()));
        all.push((format!("{link}_ADDR"), host.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: serde_json::Value) -> Vec<String> {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "my-nginx"}, "spec": spec})).expect("a service");
        variables(&service).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_tutorials_service() {
        assert_eq!(
            of(json!({"clusterIP": "10.0.162.149", "ports": [{"port": 80, "protocol": "TCP"}]})),
            [
                "MY_NGINX_SERVICE_HOST=10.0.162.149",
                "MY_NGINX_SERVICE_PORT=80",
                "MY_NGINX_PORT=tcp://10.0.162.149:80",
                "MY_NGINX_PORT_80_TCP=tcp://10.0.162.149:80",
                "MY_NGINX_PORT_80_TCP_PROTO=tcp",
                "MY_NGINX_PORT_80_TCP_PORT=80",
                "MY_NGINX_PORT_80_TCP_ADDR=10.0.162.149",
            ]
        );
    }

    #[test]
    fn named_ports_and_services_without_an_address() {
        let named = of(json!({"clusterIP": "fd00::1", "ports": [{"name": "http-alt", "port": 81, "protocol": "UDP"}]}));
        assert!(named.contains(&"MY_NGINX_SERVICE_PORT_HTTP_ALT=81".to_owned()), "{named:?}");
        assert!(named.contains(&"MY_NGINX_PORT=udp://[fd00::1]:81".to_owned()), "{named:?}");
        for spec in [json!({"clusterIP": "None", "ports": [{"port": 80}]}), json!({"ports": [{"port": 80}]})] {
            assert!(of(spec).is_empty());
        }
    }
}
