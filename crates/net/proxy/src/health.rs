//! Where load balancers ask whether this node has endpoints of a Service whose outside traffic stays on its node
//! (`healthCheckNodePort`). Answers, status codes and headers are those of upstream's proxy.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use base_tasks::Tasks;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use machinery_client::ObjectKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How many ready endpoints this node has; a load balancer may spread by it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
const NO_SNIFFING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
/// A client that sends no request is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one Service's port says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) port: u16,
    /// Ready ones of this node.
    pub(crate) endpoints: usize,
}

/// The open ports.
#[derive(Debug)]
pub(crate) struct HealthServer {
    tasks: Tasks,
    open: BTreeMap<ObjectKey, Open>,
}

#[derive(Debug)]
struct Open {
    port: u16,
    tasks: Tasks,
    endpoints: watch::Sender<usize>,
}

impl HealthServer {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self { tasks: tasks.child("health"), open: BTreeMap::new() }
    }

    /// Opens, closes and updates ports so that they say this. One that cannot be opened is tried again at the next
    /// change.
    pub(crate) fn set(&mut self, wanted: &BTreeMap<ObjectKey, Health>) {
        self.open.retain(|service, open| {
            let stays = wanted.get(service).is_some_and(|health| health.port == open.port);
            if !stays {
                open.tasks.cancel();
            }
            stays
        });
        for (service, health) in wanted {
            if let Some(open) = self.open.get(service) {
                open.endpoints.send_replace(health.endpoints);
                continue;
            }
            match listen(health.port) {
                Ok(listener) => {
                    let tasks = self.tasks.child(&service.to_string());
                    let endpoints = watch::Sender::new(health.endpoints);
                    tasks.spawn("answer", serve(tasks.clone(), listener, service.clone(), endpoints.subscribe()));
                    self.open.insert(service.clone(), Open { port: health.port, tasks, endpoints });
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    %service,
                    port = health.port,
                    "the health check port cannot be opened"
                ),
            }
        }
    }
}

/// On all addresses of both families; on a host without IPv6, of one.
fn listen(port: u16) -> io::Result<TcpListener> {
    let all = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let listener = all.or_else(|_| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(tasks: Tasks, listener: TcpListener, service: ObjectKey, endpoints: watch::Receiver<usize>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tasks.spawn("connection", converse(stream, service.clone(), endpoints.clone()));
            }
            // Out of descriptors, most likely: others will be closed.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %service, "accepting a health check");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, service: ObjectKey, endpoints: watch::Receiver<usize>) {
    let answer = service_fn(|_: Request<Incoming>| {
        let response = answer(&service, *endpoints.borrow());
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let mut connection = hyper::server::conn::http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that went away is no news.
    drop(connection.serve_connection(TokioIo::new(stream), answer).await);
}

fn answer(service: &ObjectKey, endpoints: usize) -> Response<String> {
    // Names are of letters, digits and dashes. We answer: the proxy is healthy.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name,
    );
    let mut response = Response::new(body);
    *response.status_mut() = if endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(NO_SNIFFING.0, NO_SNIFFING.1);
    headers.insert(WEIGHT, HeaderValue::from(endpoints));
    response
}
