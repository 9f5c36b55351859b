//! What every cluster has from its first second: four namespaces, and the Services `kubernetes` and `kube-dns` with
//! endpoints that nobody selects; objects of the API's own machinery are [`seeds`]. Written at every start; what is right
//! already is left alone.

use std::net::{IpAddr, SocketAddr};

use base_meta::{Reason, Status, decode_value};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery_registry::strategy::ApiObject;
use machinery_registry::{Registry, Strategy};
use serde_json::{Value, json};

use crate::define::server_context;
use crate::{Resources, seeds};

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// Upstream: endpoints made by hand for the API server are not mirrored into slices of a controller's own.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug)]
pub struct Facts {
    /// Where pods reach this API server: the node's address and the HTTPS port.
    pub api_server: SocketAddr,
    /// The ClusterIP of `kube-dns`, in the service range.
    pub cluster_dns: IpAddr,
    /// Where DNS really answers, one per node known at start.
    pub dns_endpoints: Vec<SocketAddr>,
}

pub async fn write(resources: &Resources, facts: &Facts) -> Result<(), Status> {
    for name in NAMESPACES {
        let namespace: Namespace = parse(json!({"metadata": {"name": name}}))?;
        ensure(&resources.namespaces, &namespace, |_, _| {}).await?;
    }
    seeds::write(&resources.all(), &resources.allocations.configured()).await?;
    let first = resources.allocations.first_service_ip();
    let api_port = i32::from(facts.api_server.port());
    let kubernetes = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": first.to_string(), "sessionAffinity": "None", "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": api_port}]},
    });
    service(resources, kubernetes).await?;
    publish(resources, "default", "kubernetes", &[facts.api_server], &[("https", "TCP")]).await?;

    let kube_dns = json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns",
            "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"clusterIP": facts.cluster_dns.to_string(), "type": "ClusterIP", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]},
    });
    service(resources, kube_dns).await?;
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    publish(resources, "kube-system", "kube-dns", &facts.dns_endpoints, &ports).await
}

/// A service that is there keeps what users changed of it, but its ports are ours.
async fn service(resources: &Resources, value: Value) -> Result<(), Status> {
    let wanted: Service = parse(value)?;
    ensure(&resources.services, &wanted, |stored, wanted| {
        if let (Some(stored), Some(wanted)) = (&mut stored.spec, &wanted.spec) {
            stored.ports.clone_from(&wanted.ports);
        }
    })
    .await
}

async fn publish(
    resources: &Resources,
    namespace: &str,
    name: &str,
    at: &[SocketAddr],
    ports: &[(&str, &str)],
) -> Result<(), Status> {
    let Some(first) = at.first() else { return Ok(()) };
    let number = first.port();
    let ports: Vec<Value> =
        ports.iter().map(|(name, protocol)| json!({"name": name, "port": number, "protocol": protocol})).collect();
    let addresses: Vec<Value> = at.iter().map(|at| json!({"ip": at.ip().to_string()})).collect();
    let wanted: Endpoints = parse(json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {SKIP_MIRROR: "true"}},
        "subsets": [{"addresses": addresses, "ports": ports}],
    }))?;
    ensure(&resources.endpoints, &wanted, |stored, wanted| stored.subsets.clone_from(&wanted.subsets)).await?;
    let endpoints: Vec<Value> =
        at.iter().map(|at| json!({"addresses": [at.ip().to_string()], "conditions": {"ready": true}})).collect();
    let wanted: EndpointSlice = parse(json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {SERVICE_NAME: name}},
        "addressType": if first.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints, "ports": ports,
    }))?;
    ensure(&resources.endpoint_slices, &wanted, |stored, wanted| {
        stored.endpoints.clone_from(&wanted.endpoints);
        stored.ports.clone_from(&wanted.ports);
    })
    .await
}

/// Creates the object, or lets `merge` bring the stored one up to date; a merge that changes nothing writes nothing.
async fn ensure<S: Strategy>(
    registry: &Registry<S>,
    wanted: &S::Object,
    merge: impl Fn(&mut S::Object, &S::Object) + Send + Sync,
) -> Result<(), Status> {
    let metadata = wanted.metadata();
    let ctx = server_context(registry.strategy().def().gvr(), metadata.namespace.as_deref());
    match registry.create_typed(&ctx, wanted).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => {
            let name = metadata.name.as_deref().unwrap_or("");
            registry
                .update_with(&ctx, name, |stored| {
                    merge(stored, wanted);
                    Ok(())
                })
                .await
                .map(drop)
        }
        Err(status) => Err(status),
    }
}

fn parse<T: ApiObject + Metadata<Ty = ObjectMeta>>(value: Value) -> Result<T, Status> {
    decode_value(&value).map_err(Status::internal)
}
