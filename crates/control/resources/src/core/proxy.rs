//! `…/proxy/…` of pods, services and nodes: the request goes on to what its name stands for, upgrade and all.
//!
//! ```text
//! nodes/[scheme:]NAME[:port]     its agent's HTTPS API, with the server's certificate; another port in plain HTTP
//!                                or, with the scheme `https`, in TLS that nobody's certificate is checked for, as below
//! pods/[scheme:]NAME[:port]      its address, at the port, else at the first that a container names
//! services/[scheme:]NAME[:port]  one of its ready endpoints, at the endpoint's port of that name
//! ```

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use base_meta::{Reason, Status};
use http::header::{CONNECTION, HOST, HeaderName, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use machinery_registry::{Body, Registry, RequestContext, SubresourceHandler};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoints::EndpointsStrategy;
use super::node::NodeStrategy;
use super::node_proxy::{NodeAddress, NodeProxy};
use super::pod::PodStrategy;
use super::service::ServiceStrategy;

pub(crate) enum Behind {
    Nodes,
    Pods(Weak<Registry<PodStrategy>>),
    Services(Weak<Registry<ServiceStrategy>>, Arc<Registry<EndpointsStrategy>>),
}

pub(crate) struct Proxy {
    pub(crate) behind: Behind,
    pub(crate) nodes: Weak<Registry<NodeStrategy>>,
    pub(crate) client: NodeProxy,
    /// TLS to pods: upstream does not check who answers at an address that it has from the cluster itself.
    pub(crate) anyone: Arc<rustls::ClientConfig>,
}

#[async_trait::async_trait]
impl SubresourceHandler for Proxy {
    async fn handle(&self, ctx: &RequestContext, name: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        // `/api/v1/nodes/NAME/proxy` and `/api/v1/namespaces/NS/pods/NAME/proxy`.
        let slashes = if matches!(self.behind, Behind::Nodes) { 6 } else { 8 };
        let Some(path) = rest(request.uri().path(), slashes) else { return redirect(request.uri()) };
        let path = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let wanted = Named::parse(name).ok_or_else(|| Status::bad_request(self.invalid(name)))?;
        let ctx = RequestContext { subresource: None, ..ctx.clone() };
        let to = self.find(&ctx, &wanted).await?;
        self.send(&to, &path, request).await
    }
}

fn gone() -> Status {
    Status::service_unavailable("the server is shutting down")
}

/// Where a request goes on to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Agent(NodeAddress),
    Address { ip: IpAddr, port: u16, tls: bool },
}

impl Proxy {
    fn invalid(&self, name: &str) -> String {
        let kind = match self.behind {
            Behind::Nodes => "node",
            Behind::Pods(_) => "pod",
            Behind::Services(..) => "service",
        };
        format!("invalid {kind} request {name:?}")
    }

    async fn find(&self, ctx: &RequestContext, wanted: &Named<'_>) -> Result<Place, Status> {
        match &self.behind {
            Behind::Nodes => {
                let node = self.nodes.upgrade().ok_or_else(gone)?.get_typed(ctx, wanted.name).await?;
                let agent = NodeAddress::of(&node)?;
                match wanted.port {
                    "" => Ok(Place::Agent(agent)),
                    port if port.parse() == Ok(agent.port) => Ok(Place::Agent(agent)),
                    port => Ok(Place::Address { ip: agent.ip, port: number(port)?, tls: wanted.tls }),
                }
            }
            Behind::Pods(pods) => {
                let pod = pods.upgrade().ok_or_else(gone)?.get_typed(ctx, wanted.name).await?;
                let (ip, port) = place_of_pod(&pod, wanted.port)?;
                Ok(Place::Address { ip, port, tls: wanted.tls })
            }
            Behind::Services(services, endpoints) => {
                let service = services.upgrade().ok_or_else(gone)?.get_typed(ctx, wanted.name).await?;
                let port = port_name(&service, wanted.name, wanted.port)?;
                let endpoints = match endpoints.get_typed(ctx, wanted.name).await {
                    Err(status) if status.reason == Reason::NotFound => Endpoints::default(),
                    found => found?,
                };
                let places = places(&endpoints, &port);
                let none =
                    || Status::service_unavailable(format!("no endpoints available for service {:?}", wanted.name));
                // The clock is as good a die as any.
                let nanos = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs();
                let index = usize::try_from(nanos / 1000).unwrap_or(0) % places.len().max(1);
                let (ip, port) = places.get(index).copied().ok_or_else(none)?;
                Ok(Place::Address { ip, port, tls: wanted.tls })
            }
        }
    }

    async fn send(&self, to: &Place, path: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (ip, port, tls) = match to {
            Place::Agent(address) => return self.client.pass(address, path, onward(request, "")).await,
            Place::Address { ip, port, tls } => (*ip, *port, *tls),
        };
        let authority = std::net::SocketAddr::new(ip, port).to_string();
        let unreachable = |error: &dyn std::fmt::Display| {
            Status::service_unavailable(format!("error trying to reach service: dial tcp {authority}: {error}"))
        };
        let tcp = TcpStream::connect((ip, port)).await.map_err(|error| unreachable(&error))?;
        let request = onward(request, &authority);
        if !tls {
            return self.client.exchange(tcp, path, request).await.map_err(|error| unreachable(&error));
        }
        let connector = TlsConnector::from(self.anyone.clone());
        let stream = connector.connect(ServerName::from(ip), tcp).await.map_err(|error| unreachable(&error))?;
        self.client.exchange(stream, path, request).await.map_err(|error| unreachable(&error))
    }
}

/// Without the caller's credentials and what is of this hop alone.
fn onward(mut request: Request<Body>, authority: &str) -> Request<Body> {
    let (host, uri) = (request.headers().get(HOST).cloned(), request.uri().path().to_owned());
    let headers = request.headers_mut();
    let upgrade = headers.contains_key(http::header::UPGRADE);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            matches!(
                name,
                "authorization"
                    | "host"
                    | "keep-alive"
                    | "proxy-authenticate"
                    | "proxy-authorization"
                    | "te"
                    | "trailer"
            ) || name.starts_with("impersonate-")
                || (!upgrade && (name == CONNECTION.as_str() || name == "transfer-encoding"))
        })
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    let mut set = |name: &'static str, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("host", HeaderValue::from_str(authority).ok().filter(|value| !value.is_empty()));
    set("x-forwarded-host", host);
    set("x-forwarded-proto", Some(HeaderValue::from_static("https")));
    set("x-forwarded-uri", HeaderValue::from_str(&uri).ok());
    request
}

/// From the `slashes`th slash on.
fn rest(path: &str, slashes: usize) -> Option<&str> {
    path.match_indices('/').nth(slashes - 1).map(|(index, _)| &path[index..])
}

/// Relative links of what is shown would lead astray without the slash.
fn redirect(uri: &Uri) -> Result<Response<Body>, Status> {
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let location = HeaderValue::from_str(&format!("{}/{query}", uri.path())).map_err(Status::internal)?;
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// `[scheme:]name[:port]`
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, name, port) = match text.split(':').collect::<Vec<_>>()[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Self { tls: scheme == "https", name, port })
    }
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

fn place_of_pod(pod: &Pod, port: &str) -> Result<(IpAddr, u16), Status> {
    let name = pod.metadata.name.as_deref().unwrap_or("");
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).unwrap_or("");
    let ip: IpAddr = ip.parse().map_err(|_| Status::bad_request("address not allowed"))?;
    // A pod must not lead the server back to itself or to its host's metadata.
    let link_local = matches!(ip, IpAddr::V4(v4) if v4.is_link_local());
    if ip.is_loopback() || ip.is_unspecified() || link_local {
        return Err(Status::bad_request("address not allowed"));
    }
    if !port.is_empty() {
        return Ok((ip, number(port)?));
    }
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers.flat_map(|container| container.ports.iter().flatten()).next();
    let port = first.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(80);
    tracing::trace!(pod = name, port, "a proxied request names no port");
    Ok((ip, port))
}

/// A number stands for the service's port of that number; its endpoints know it by name.
fn port_name(service: &Service, name: &str, port: &str) -> Result<String, Status> {
    let Ok(number) = port.parse::<i32>() else { return Ok(port.to_owned()) };
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    match ports.into_iter().find(|port| port.port == number) {
        Some(port) => Ok(port.name.clone().unwrap_or_default()),
        None => Err(Status::service_unavailable(format!("no service port {number} found for service {name:?}"))),
    }
}

fn places(endpoints: &Endpoints, port: &str) -> Vec<(IpAddr, u16)> {
    let mut all = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let found = subset.ports.iter().flatten().find(|found| found.name.as_deref().unwrap_or("") == port);
        let Some(port) = found.and_then(|found| u16::try_from(found.port).ok()) else { continue };
        // Only to pods, as upstream: an address that a user wrote may be anybody's.
        let pods =
            subset.addresses.iter().flatten().filter(|address| {
                address.target_ref.as_ref().is_some_and(|target| target.kind.as_deref() == Some("Pod"))
            });
        all.extend(pods.filter_map(|address| address.ip.parse().ok()).map(|ip| (ip, port)));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_paths() {
        let named = |tls, name, port| Some(Named { tls, name, port });
        let table = [
            ("web", named(false, "web", "")),
            ("web:80", named(false, "web", "80")),
            ("https:web:", named(true, "web", "")),
            ("ftp:web:80", None),
            (":80", None),
            ("a:b:c:d", None),
        ];
        for (text, expected) in table {
            assert_eq!(Named::parse(text), expected, "{text}");
        }
        assert_eq!(rest("/api/v1/namespaces/a/pods/b/proxy/x/y", 8), Some("/x/y"));
        assert_eq!(rest("/api/v1/namespaces/a/pods/b/proxy", 8), None);
        assert_eq!(rest("/api/v1/nodes/n/proxy/", 6), Some("/"));
    }

    #[test]
    fn a_service_is_reached_at_its_pods() {
        let service: Service =
            serde_json::from_value(json!({"spec": {"ports": [{"name": "web", "port": 80}]}})).expect("one");
        assert_eq!(port_name(&service, "s", "80"), Ok("web".into()));
        let refused = port_name(&service, "s", "81").expect_err("no such port");
        assert_eq!((refused.code, refused.message.as_str()), (503, "no service port 81 found for service \"s\""));
        let endpoints: Endpoints =
            serde_json::from_value(json!({"subsets": [{"ports": [{"name": "web", "port": 8080}],
            "addresses": [{"ip": "10.0.0.1", "targetRef": {"kind": "Pod"}}, {"ip": "10.0.0.2"}]}]}))
            .expect("endpoints");
        assert_eq!(places(&endpoints, "web"), [("10.0.0.1".parse().expect("an address"), 8080)]);
        assert!(places(&endpoints, "other").is_empty());
    }

    #[test]
    fn a_pod_is_reached_at_its_first_port_but_never_at_the_server() {
        let pod = |ip: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
                "status": {"podIP": ip}}))
            .expect("a pod")
        };
        assert_eq!(place_of_pod(&pod("10.0.0.1"), "").map(|(_, port)| port), Ok(8080));
        assert_eq!(place_of_pod(&pod("10.0.0.1"), "81").map(|(_, port)| port), Ok(81));
        for ip in ["127.0.0.1", "169.254.169.254", ""] {
            assert_eq!(place_of_pod(&pod(ip), "").expect_err("refused").message, "address not allowed");
        }
    }

    #[test]
    fn credentials_stay_here() {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get("/api/v1/x").header("authorization", "Bearer t").header("impersonate-user", "u");
        let request = request.header("accept", "*/*").body(body).expect("a request");
        let sent = onward(request, "10.0.0.1:80");
        let names: Vec<&str> = sent.headers().keys().map(HeaderName::as_str).collect();
        assert!(!names.contains(&"authorization") && !names.contains(&"impersonate-user"), "{names:?}");
        assert_eq!(sent.headers()["host"], "10.0.0.1:80");
        assert_eq!(sent.headers()["x-forwarded-uri"], "/api/v1/x");
    }
}
