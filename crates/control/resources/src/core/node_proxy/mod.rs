//! Requests that a node answers: logs, exec, attach and port-forward go on to the HTTPS API of the node that runs the pod,
//! with the server's own client certificate. An upgrade (to WebSocket or SPDY) is joined byte for byte, both ways.

use std::net::IpAddr;
use std::sync::Arc;

use base_meta::{Reason, Status};
use base_tasks::Tasks;
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use machinery_registry::Body;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    pub(crate) node: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

impl NodeAddress {
    /// Where the node says its API listens.
    pub(crate) fn of(node: &Node) -> Result<Self, Status> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let ip = crate::core::node::address(node, "InternalIP").and_then(|ip| ip.parse().ok());
        let endpoints = node.status.as_ref().and_then(|status| status.daemon_endpoints.as_ref());
        let port = endpoints.and_then(|endpoints| endpoints.kubelet_endpoint.as_ref()).map(|endpoint| endpoint.port);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        match (ip, port) {
            (Some(ip), Some(port)) => Ok(Self { node: name, ip, port }),
            (None, _) => {
                Err(Status::internal(format!("no preferred addresses found; known addresses of node {name}: []")))
            }
            (_, None) => Err(Status::internal(format!("node {name} does not say on which port its API listens"))),
        }
    }

    fn authority(&self) -> String {
        std::net::SocketAddr::new(self.ip, self.port).to_string()
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("dial tcp {0}")]
    Connect(String, #[source] std::io::Error),
    #[error("TLS handshake with {0}")]
    Tls(String, #[source] std::io::Error),
    #[error("request to {0}")]
    Http(String, #[source] Box<dyn std::error::Error + Send + Sync>),
}

#[derive(Clone)]
pub(crate) struct NodeProxy {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// Owns the connections while they carry streams.
    pub(crate) tasks: Tasks,
}

impl NodeProxy {
    /// Sends the request's method and upgrade headers to `path_and_query` on the node and answers with what it says.
    pub(crate) async fn forward(
        &self,
        to: &NodeAddress,
        path_and_query: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let client = machinery_dial::upgrade_wanted(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (parts, _) = request.into_parts();
        let response = self.send(to, path_and_query, &parts).await.map_err(|error| unreachable(to, &error))?;
        match client {
            Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Ok(machinery_dial::join(&self.tasks, client, response))
            }
            _ if response.status().is_success() => Ok(machinery_dial::answer(response)),
            _ => Err(refused(response).await),
        }
    }

    /// What the node says at `path_and_query`, where that is at most `most` bytes.
    pub(crate) async fn read(
        &self,
        to: &NodeAddress,
        path_and_query: &str,
        most: usize,
    ) -> Result<(HeaderMap, Bytes), Status> {
        let (request, ()) = Request::new(()).into_parts();
        let response = self.send(to, path_and_query, &request).await.map_err(|error| unreachable(to, &error))?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let (parts, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, most).collect().await;
        let body = body.map_err(|error| Status::internal(format!("node {}: {path_and_query}: {error}", to.node)))?;
        Ok((parts.headers, body.to_bytes()))
    }

    /// Sends the whole request, body and all, and answers with whatever comes back.
    pub(crate) async fn pass(
        &self,
        to: &NodeAddress,
        path: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let authority = HeaderValue::from_str(&to.authority()).map_err(Status::internal)?;
        request.headers_mut().insert(HOST, authority);
        let stream = self.dial(to).await.map_err(|error| unreachable(to, &error))?;
        self.exchange(stream, path, request)
            .await
            .map_err(|error| Status::service_unavailable(format!("error trying to reach service: {error}")))
    }

    /// One request over a fresh connection; an upgrade is joined.
    pub(crate) async fn exchange<S>(
        &self,
        stream: S,
        path: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let client = machinery_dial::upgrade_wanted(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn("proxied connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a proxied connection ended");
            }
        });
        *request.uri_mut() = path.parse()?;
        *request.version_mut() = http::Version::HTTP_11;
        let response = sender.send_request(request).await?;
        Ok(match client {
            Some(client) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                machinery_dial::join(&self.tasks, client, response)
            }
            _ => machinery_dial::answer(response),
        })
    }

    async fn dial(&self, to: &NodeAddress) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
        let authority = to.authority();
        let tcp =
            TcpStream::connect((to.ip, to.port)).await.map_err(|error| Error::Connect(authority.clone(), error))?;
        // Keystrokes must not wait for each other.
        tcp.set_nodelay(true).map_err(|error| Error::Connect(authority.clone(), error))?;
        TlsConnector::from(self.tls.clone())
            .connect(ServerName::from(to.ip), tcp)
            .await
            .map_err(|error| Error::Tls(authority, error))
    }

    async fn send(
        &self,
        to: &NodeAddress,
        path: &str,
        request: &http::request::Parts,
    ) -> Result<Response<Incoming>, Error> {
        let authority = to.authority();
        let tls = self.dial(to).await?;
        let http = |error: Box<dyn std::error::Error + Send + Sync>| Error::Http(authority.clone(), error);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|error| http(error.into()))?;
        self.tasks.spawn("node connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection to a node ended");
            }
        });
        let mut outgoing = Request::new(Empty::<Bytes>::new());
        outgoing.method_mut().clone_from(&request.method);
        *outgoing.uri_mut() = path.parse().map_err(|error: http::uri::InvalidUri| http(error.into()))?;
        *outgoing.headers_mut() = forwarded(&request.headers);
        let host = HeaderValue::from_str(&authority).map_err(|error| http(error.into()))?;
        outgoing.headers_mut().insert(HOST, host);
        sender.send_request(outgoing).await.map_err(|error| http(error.into()))
    }
}

/// Only what the streams need goes on: never the caller's credentials.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let wanted = |name: &str| {
        matches!(name, "connection" | "upgrade" | "accept" | "user-agent" | "x-stream-protocol-version")
            || name.starts_with("sec-websocket-")
    };
    let all = headers.iter().filter(|(name, _)| wanted(name.as_str()));
    let mut kept: HeaderMap = all.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !machinery_dial::upgrade_wanted(headers) {
        kept.remove(CONNECTION);
    }
    kept
}

/// The node's own words, under the status it gave.
async fn refused(response: Response<Incoming>) -> Status {
    /// More than this is no message.
    const MOST: usize = 16 * 1024;
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MOST).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let text = if text.is_empty() { format!("the node answered {code}") } else { text };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::FORBIDDEN => Status::new(Reason::Forbidden, text),
        StatusCode::NOT_FOUND => Status::new(Reason::NotFound, text),
        StatusCode::SERVICE_UNAVAILABLE => Status::service_unavailable(text),
        _ => Status::internal(text),
    }
}

fn unreachable(to: &NodeAddress, error: &Error) -> Status {
    tracing::warn!(node = to.node, error = error as &dyn std::error::Error, "a node's API cannot be reached");
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Status::internal(format!("error dialing backend: node {} cannot be reached: {error}: {cause}", to.node))
}

/// Whether the method is one that connects.
pub(crate) fn check_method(request: &Request<Body>) -> Result<(), Status> {
    if matches!(*request.method(), Method::GET | Method::POST) {
        return Ok(());
    }
    Err(Status::new(Reason::MethodNotAllowed, format!("{} is not supported for this subresource", request.method())))
}

#[cfg(test)]
mod tests;
