//! What probes and lifecycle hooks do to a container: run a command in it, ask it over HTTP or gRPC, connect to it.
//!
//! Failures are texts, because an Event quotes them.

mod exec;
mod grpc;
mod http;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::seams::{Runtime, words};

pub(crate) use exec::beginning;
pub use exec::exec;
pub use grpc::health;
pub use http::HttpGet;

/// The container that is asked.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub container: String,
    pub spec: Container,
    pub pod_ip: Option<IpAddr>,
}

pub fn port(port: &IntOrString, target: &Target) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = target.spec.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name} in container {}", target.spec.name),
    })
}

pub async fn address(host: Option<&str>, port: u16, target: &Target) -> Result<SocketAddr, String> {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, port)),
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await.ok().and_then(|mut found| found.next());
                found.ok_or_else(|| format!("lookup {host}: no such host"))
            }
        },
        None => target.pod_ip.map(|ip| SocketAddr::new(ip, port)).ok_or_else(|| "pod has no address".to_owned()),
    }
}

pub async fn dial(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {}", words(&error)))
}
