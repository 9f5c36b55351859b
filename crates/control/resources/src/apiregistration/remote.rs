//! An aggregated API server: requests go on to it as they came, and it is asked now and then whether it is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base_meta::Status;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIServiceSpec;
use machinery_apiserver::Delegate;
use machinery_dial::{ClientConfig, Dialer, Server, ServiceReference};
use machinery_registry::{Body, UserInfo};
use serde_json::Value;
use tokio::sync::Notify;

use super::{availability, discovered, front_proxy};

/// Upstream's, of one attempt.
const PROBE: Duration = Duration::from_secs(5);
/// In which one answer is enough.
const ATTEMPTS: usize = 5;
/// Of a list of resources.
const MOST: usize = 16 << 20;

pub(super) struct Remote {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) available: AtomicBool,
    /// Something may have changed: look now.
    pub(super) wake: Notify,
    /// Its certificate is checked; an error is of the APIService's `caBundle`.
    server: Result<Server, machinery_dial::Error>,
    /// The same whoever answers: whether it is there is no secret.
    unverified: Result<Server, machinery_dial::Error>,
    /// This server asks in its own name.
    own: UserInfo,
}

/// What was found out about it.
pub(super) struct Found {
    pub(super) verdict: availability::Verdict,
    /// Its resources, in the form of aggregated discovery; `None`: it did not tell.
    pub(super) resources: Option<Value>,
    pub(super) openapi_hash: Option<String>,
    /// `None`: as it was, or not told.
    pub(super) openapi_v2: Option<Arc<Value>>,
}

impl Remote {
    pub(super) fn new(spec: &APIServiceSpec, available: bool, dialer: &Dialer) -> Self {
        let service = spec.service.as_ref().map(|service| {
            let (namespace, name, port) = availability::named(service);
            ServiceReference { namespace: namespace.into(), name: name.into(), path: None, port: Some(port) }
        });
        let insecure_skip_tls_verify = spec.insecure_skip_tls_verify == Some(true);
        let config = |insecure_skip_tls_verify: bool| {
            let (url, ca_bundle) = (None, spec.ca_bundle.clone().filter(|_| !insecure_skip_tls_verify));
            dialer.server(&ClientConfig { url, service: service.clone(), ca_bundle, insecure_skip_tls_verify })
        };
        Self {
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            available: AtomicBool::new(available),
            wake: Notify::new(),
            server: config(insecure_skip_tls_verify),
            unverified: config(true),
            own: UserInfo {
                name: "system:kube-aggregator".into(),
                groups: vec!["system:masters".into()],
                ..UserInfo::default()
            },
        }
    }

    fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// Asks it what it has; `address` is where its Service leads, as messages name it, `known` the hash of its document by
    /// which what it tells in OpenAPI v2 is known already.
    pub(super) async fn ask(&self, address: &str, known: Option<&str>) -> Found {
        let path = self.path();
        if let Ok(list) = self.get(&self.server, &path).await {
            let index = self.get(&self.server, "/openapi/v3").await.unwrap_or_default();
            let openapi_hash = discovered::openapi_hash(&index, &self.group, &self.version);
            // One without a hash is read each time: nothing else tells whether it is another.
            let openapi_v2 = match openapi_hash.as_deref() {
                Some(hash) if Some(hash) == known => None,
                _ => self.get(&self.server, "/openapi/v2").await.ok().map(Arc::new),
            };
            let resources = Some(discovered::resources(&list));
            return Found { verdict: availability::Verdict::passed(), resources, openapi_hash, openapi_v2 };
        }
        let url = format!("https://{address}{path}");
        let mut attempts: FuturesUnordered<_> =
            (0..ATTEMPTS).map(|_| self.answer(&self.unverified, &path, "*/*")).collect();
        let mut verdict = None;
        while let Some(answer) = attempts.next().await {
            let problem = match answer {
                Ok((status, _)) if status.is_success() => {
                    verdict = Some(availability::Verdict::passed());
                    break;
                }
                Ok((status, _)) => format!("bad status from {url}: {}", status.as_u16()),
                Err(error) => format!("Get {url:?}: {error}"),
            };
            let message = format!("failing or missing response from {url}: {problem}");
            verdict = Some(availability::Verdict::failed(message));
        }
        let verdict = verdict.unwrap_or_else(availability::Verdict::passed);
        Found { verdict, resources: None, openapi_hash: None, openapi_v2: None }
    }

    async fn get(&self, server: &Result<Server, machinery_dial::Error>, path: &str) -> Result<Value, String> {
        let (status, bytes) = self.answer(server, path, "application/json").await?;
        if !status.is_success() {
            return Err(status.to_string());
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    async fn answer(
        &self,
        server: &Result<Server, machinery_dial::Error>,
        path: &str,
        accept: &'static str,
    ) -> Result<(StatusCode, Bytes), String> {
        let server = server.as_ref().map_err(ToString::to_string)?;
        let mut request = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;
        front_proxy::onward(request.headers_mut(), &self.own, path, None).map_err(|error| error.to_string())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        let exchange = async {
            let response = server.send(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST).boxed_unsync();
            Ok((status, body.collect().await.map_err(|error| error.to_string())?.to_bytes()))
        };
        let late = || Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
        tokio::time::timeout(PROBE, exchange).await.unwrap_or_else(|_| late())
    }
}

/// Go's `http.Error`.
fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::from(format!("{text}\n")).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// An aggregated server must not send clients, with what they carry, elsewhere.
fn redirects(response: &Response<Body>) -> bool {
    response.status().is_redirection() && response.headers().contains_key(LOCATION)
}

#[async_trait::async_trait]
impl Delegate for Remote {
    async fn serve(&self, user: Arc<UserInfo>, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        if !self.available.load(Ordering::Acquire) {
            return Ok(plain(UNAVAILABLE, "service unavailable"));
        }
        let server = match &self.server {
            Ok(server) => server,
            Err(error) => return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let peer = request.extensions().get::<SocketAddr>().copied();
        let asked = request.uri().path().to_owned();
        *request.uri_mut() = path.parse().map_err(Status::internal)?;
        front_proxy::onward(request.headers_mut(), &user, &asked, peer).map_err(Status::internal)?;
        match server.send(request).await {
            Ok(response) if redirects(&response) => {
                let refused = "the backend attempted to redirect this request, which is not permitted";
                Ok(plain(StatusCode::BAD_GATEWAY, refused))
            }
            Ok(response) => Ok(response),
            Err(error) => {
                // It may have gone without any object telling so.
                self.wake.notify_one();
                match error {
                    machinery_dial::Error::Unresolved(_) => Ok(plain(UNAVAILABLE, "service unavailable")),
                    error => Ok(plain(UNAVAILABLE, &format!("error trying to reach service: {error}"))),
                }
            }
        }
    }
}
