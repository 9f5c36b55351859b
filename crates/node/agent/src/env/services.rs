//! Which services a pod is told of; the variables themselves are `api`'s.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

/// What the variables need of a Service; kept by the informer instead of the whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLinks {
    pub namespace: String,
    pub name: String,
    pub cluster_ip: String,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Option<String>,
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl ServiceLinks {
    /// `None` for services without a virtual IP, which have no variables.
    pub fn of(service: Service) -> Option<Self> {
        let spec = service.spec?;
        let cluster_ip = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None")?;
        let ports = spec.ports.unwrap_or_default();
        let ports: Vec<_> = ports
            .into_iter()
            .map(|port| Port {
                name: port.name.filter(|name| !name.is_empty()),
                port: port.port,
                protocol: port.protocol.unwrap_or_else(|| "TCP".into()),
            })
            .collect();
        if ports.is_empty() {
            return None;
        }
        Some(Self {
            namespace: service.metadata.namespace.unwrap_or_default(),
            name: service.metadata.name.unwrap_or_default(),
            cluster_ip,
            ports,
        })
    }

    /// The part of the Service that was kept.
    fn restore(&self) -> Service {
        let ports = self.ports.iter().map(|port| ServicePort {
            name: port.name.clone(),
            port: port.port,
            protocol: Some(port.protocol.clone()),
            ..ServicePort::default()
        });
        let mut service = Service::default();
        service.metadata.name = Some(self.name.clone());
        service.metadata.namespace = Some(self.namespace.clone());
        service.spec = Some(ServiceSpec {
            cluster_ip: Some(self.cluster_ip.clone()),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        });
        service
    }
}

/// `links` false leaves only the API server's own service.
pub(super) fn variables(services: &[ServiceLinks], links: bool) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let master = service.namespace == "default" && service.name == "kubernetes";
        if links || master {
            variables.extend(api::service_env::variables(&service.restore()));
        }
    }
    variables
}
