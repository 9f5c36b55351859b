//! The server as its clients see it, over a small resource kept in memory.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod chain;
mod discovery;
mod dynamic;
pub(crate) mod fake;
mod forms;
mod openapi;
pub(crate) mod sample;
mod tls;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use machinery_registry::{Body, UserInfo};
use serde_json::Value;
use tower::ServiceExt;

use crate::{
    ApiServer, Attributes, Authenticator, Authorizer, Config, Decision, HealthCheck, Identity, Limits, VersionInfo,
};

/// Knows callers by bearer token, or by holding any client certificate.
struct Tokens;

#[async_trait::async_trait]
impl Authenticator for Tokens {
    fn connection(&self, _peer: &[rustls_pki_types::CertificateDer<'_>]) -> Option<Identity> {
        Some(Identity { user: Arc::new(user("certified")), valid_until: None })
    }

    async fn request(&self, parts: &http::request::Parts) -> Result<Option<Arc<UserInfo>>, base_meta::Status> {
        let Some(value) = parts.headers.get("authorization") else { return Ok(None) };
        match value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")) {
            Some("bad") => Err(base_meta::Status::unauthorized()),
            Some(name) => Ok(Some(Arc::new(user(name)))),
            None => Ok(None),
        }
    }
}

/// Everyone may do everything but `mallory`, and `reader`, who may not create.
struct Trusting;

#[async_trait::async_trait]
impl Authorizer for Trusting {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match (attributes.user.name.as_str(), attributes.verb) {
            ("mallory", _) | ("reader", "create") => Decision::NoOpinion { reason: String::new() },
            _ => Decision::Allow,
        }
    }
}

fn user(name: &str) -> UserInfo {
    UserInfo { name: name.into(), ..UserInfo::default() }
}

fn server_with(limits: Limits) -> (ApiServer, Arc<fake::Fake>) {
    server_of(limits, None)
}

pub(crate) fn server_of(limits: Limits, audit: Option<crate::audit::Audit>) -> (ApiServer, Arc<fake::Fake>) {
    let widgets = fake::Fake::new();
    let config = Config {
        resources: vec![widgets.clone()],
        authenticators: vec![Arc::new(Tokens)],
        authorizers: vec![Arc::new(Trusting)],
        version: VersionInfo::kubernetes_1_36("test", ""),
        health_checks: vec![HealthCheck::ready("cache", || Ok(()))],
        limits,
        advertise_address: "10.0.0.1:6443".into(),
        documents: Vec::new(),
        metrics: Vec::new(),
    };
    (ApiServer::with_audit(config, audit), widgets)
}

pub(crate) fn server() -> (ApiServer, Arc<fake::Fake>) {
    server_with(Limits::default())
}

pub(crate) async fn send(server: &ApiServer, who: &str, request: Request<Full<Bytes>>) -> Response<Body> {
    let Ok(response) = server.in_process(user(who)).oneshot(request).await;
    response
}

/// Path, headers and body of a request; the answer's code and JSON (or text).
pub(crate) async fn ask(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let response = send(server, "alice", request).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let value =
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    (code, value)
}

async fn get(server: &ApiServer, path: &str) -> (u16, Value) {
    ask(server, "GET", path, &[], b"").await
}
