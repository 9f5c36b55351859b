//! The pods behind a Service, with its ports resolved on each.

use std::net::IpAddr;
use std::sync::Arc;

use base_meta::selector::LabelSelector;
use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::world::PodFacts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// As `EndpointSlice.addressType` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub fn contains(self, ip: &str) -> bool {
        ip.contains(':') == (self == Self::V6)
    }

    pub fn of_address(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The families a Service has addresses in.
    pub fn of(service: &Service) -> Vec<Self> {
        let named = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
        let families: Vec<Self> =
            named.iter().map(|family| if family == "IPv6" { Self::V6 } else { Self::V4 }).collect();
        if families.is_empty() { vec![Self::V4] } else { families }
    }
}

/// One port of the Service as one pod serves it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedPort {
    pub name: String,
    pub number: i32,
    pub protocol: String,
    pub app_protocol: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Backend {
    pub pod: Arc<PodFacts>,
    pub zone: Option<String>,
    /// Sorted; a named target port that the pod does not have is missing.
    pub ports: Vec<ResolvedPort>,
}

impl Backend {
    /// The pod, as endpoints refer to it.
    pub fn target(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(self.pod.key.namespace.clone()),
            name: Some(self.pod.key.name.clone()),
            uid: Some(self.pod.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// Its name below the Service's, where its subdomain is the Service.
    pub fn hostname(&self, service: &Service) -> Option<String> {
        let below = self.pod.subdomain.is_some() && self.pod.subdomain == service.metadata.name;
        self.pod.hostname.clone().filter(|name| below && !name.is_empty())
    }
}

/// The Service's selector; `None` where somebody else writes its endpoints.
pub fn selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| LabelSelector::from_pairs(labels))
}

/// The pods of the namespace that stand behind the Service: selected, with an address, and not ended.
pub fn backends(service: &Service, pods: Vec<Arc<PodFacts>>, zone_of: impl Fn(&str) -> Option<String>) -> Vec<Backend> {
    let Some(selector) = selector(service) else { return Vec::new() };
    let wanted = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut backends: Vec<Backend> = pods
        .into_iter()
        .filter(|pod| !pod.ips.is_empty() && !pod.terminal())
        .filter(|pod| selector.matches(|key| pod.labels.get(key).map(String::as_str)))
        .map(|pod| {
            let mut ports: Vec<ResolvedPort> = wanted.iter().filter_map(|port| resolve(port, &pod)).collect();
            ports.sort();
            let zone = pod.node.as_deref().and_then(&zone_of);
            Backend { pod, zone, ports }
        })
        .collect();
    // A stable order makes a plan that changes nothing compare equal.
    backends.sort_by(|one, two| one.pod.key.cmp(&two.pod.key));
    backends
}

fn resolve(port: &ServicePort, pod: &PodFacts) -> Option<ResolvedPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => pod
            .ports
            .iter()
            .find(|(named, over, _)| named == name && *over == protocol)
            .map(|(_, _, number)| *number)?,
    };
    Some(ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        number,
        protocol,
        app_protocol: port.app_protocol.clone(),
    })
}
