//! The node's HTTPS API, which the API server calls: logs, exec, attach, port-forward, the list of pods.
//!
//! TLS; the API server and cluster administrators show their certificates, everybody else is asked who they are and what they
//! may (`identity`).

pub(crate) mod attach;
pub(crate) mod forward;
mod identity;
mod logs;
mod read;
pub(crate) mod routes;
mod stats;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::error::Error;
use crate::pods::Machine;
use crate::upgrade::{Handshake, UpgradeError};

pub use identity::Access;
pub use read::ReadLogs;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Binds the port, then serves until the tasks are cancelled.
pub async fn start(tasks: &Tasks, machine: Arc<Machine>) -> Result<(), Error> {
    let address = SocketAddr::new(machine.config.node_ips.primary, machine.config.kubelet_port);
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    listen(tasks, listener, (*machine.config.tls).clone(), machine);
    Ok(())
}

fn listen(tasks: &Tasks, listener: TcpListener, mut tls: rustls::ServerConfig, machine: Arc<Machine>) {
    // Connection upgrades need HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let connections = tasks.child("node-api");
    tasks.spawn("node-api", async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let (acceptor, machine) = (acceptor.clone(), Arc::clone(&machine));
                    connections.spawn("connection", async move { serve(stream, peer, acceptor, machine).await });
                }
                Err(error) => {
                    // Out of descriptors, most likely: give connections time to end.
                    tracing::warn!(%error, "node API connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

async fn serve(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, machine: Arc<Machine>) {
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "node API handshake failed"),
        Err(_) => return,
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = Arc::new(identity::of_certificate(certificate));
    let service = service_fn(move |request: Request<Incoming>| {
        let (machine, caller) = (Arc::clone(&machine), Arc::clone(&caller));
        async move {
            let what = (request.method(), request.uri().path(), request.headers());
            let checked = machine.access.check(&*machine.cluster, &caller, what).await;
            let response = match checked {
                Ok(()) => routes::route(machine, request).await,
                Err((status, message)) => text(status, message),
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%peer, %error, "node API connection ended");
    }
}

pub(crate) fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(message));
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    let content_type = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The answer that switches protocols.
fn granted<P>(handshake: Handshake<P>) -> Response<Body> {
    let response = handshake.response().body(full(""));
    response.unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

pub(crate) fn refused(error: &UpgradeError) -> Response<Body> {
    let response = error.response().body(full(format!("{error}\n")));
    response.unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}
