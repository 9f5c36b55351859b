//! Conversion by a webhook: `apiextensions.k8s.io/v1 ConversionReview` over HTTPS, to a Service or a URL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base_meta::{GroupVersion, Gvr, Reason, Status};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{WebhookClientConfig, WebhookConversion};
use machinery_registry::{Conversion, Registry, RequestContext};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::core::service::ServiceStrategy;

/// Upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer holds as many objects as were asked for, so it may be large; not without end.
const MAX_ANSWER: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no webhook is configured")]
    NotConfigured,
    #[error("reading the certificates of caBundle: {0}")]
    Certificates(String),
    #[error("{0:?} is not an HTTPS URL")]
    Url(String),
    #[error("Post {url:?}: {source}")]
    Post { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("Post {0:?}: context deadline exceeded")]
    TimedOut(String),
    #[error("the server answered {0}")]
    Refused(http::StatusCode),
    #[error("reading its answer: {0}")]
    Answer(serde_json::Error),
    #[error("{0}")]
    Said(String),
}

pub(crate) struct Webhook {
    /// `stable.example.com/v1, Kind=CronTab`, for messages.
    kind: String,
    config: Option<WebhookClientConfig>,
    services: Arc<Registry<ServiceStrategy>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Whom to call, and as what they must prove themselves.
struct Target {
    host: String,
    connect: (String, u16),
    path: String,
}

impl Webhook {
    pub(crate) fn new(
        kind: String,
        webhook: Option<&WebhookConversion>,
        services: Arc<Registry<ServiceStrategy>>,
    ) -> Self {
        Self { kind, config: webhook.and_then(|webhook| webhook.client_config.clone()), services }
    }

    async fn target(&self, config: &WebhookClientConfig) -> Result<Target, Error> {
        if let Some(service) = &config.service {
            let port = service.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
            let ctx = RequestContext {
                user: Arc::default(),
                gvr: Gvr::of("", "v1", "services"),
                subresource: None,
                namespace: Some(service.namespace.as_str().into()),
                warnings: Default::default(),
            };
            let found = self.services.get_typed(&ctx, &service.name).await;
            let found = found.map_err(|status| Error::Said(status.message))?;
            let address = found.spec.and_then(|spec| spec.cluster_ip).filter(|address| address != "None");
            let host = format!("{}.{}.svc", service.name, service.namespace);
            let address = address.ok_or_else(|| Error::Said(format!("service {host} has no cluster IP")))?;
            let path = service.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
            return Ok(Target { host, connect: (address, port), path });
        }
        let text = config.url.clone().ok_or(Error::NotConfigured)?;
        let url: http::Uri = text.parse().map_err(|_| Error::Url(text.clone()))?;
        match (url.scheme_str(), url.host()) {
            (Some("https"), Some(host)) => Ok(Target {
                host: host.to_owned(),
                connect: (host.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(443)),
                path: url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            }),
            _ => Err(Error::Url(text)),
        }
    }

    async fn call(&self, review: &Value) -> Result<Value, Error> {
        let config = self.config.as_ref().ok_or(Error::NotConfigured)?;
        let target = self.target(config).await?;
        let url = format!("https://{}:{}{}?timeout=30s", target.host, target.connect.1, target.path);
        let tls = tls(config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()).unwrap_or_default())?;
        match tokio::time::timeout(TIMEOUT, post(&target, tls, review)).await {
            Ok(Ok((status, bytes))) if status.is_success() => serde_json::from_slice(&bytes).map_err(Error::Answer),
            Ok(Ok((status, _))) => Err(Error::Refused(status)),
            Ok(Err(source)) => Err(Error::Post { url, source }),
            Err(_) => Err(Error::TimedOut(url)),
        }
    }

    async fn ask(&self, objects: &[Value], to: &GroupVersion) -> Result<Vec<Value>, Error> {
        let uid = objects.first().map(|object| object["metadata"]["uid"].clone()).unwrap_or_default();
        let uid = if uid.is_string() { uid } else { json!(self.kind) };
        let review = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": to.to_string(), "objects": objects},
        });
        let mut answer = self.call(&review).await?;
        let response = &mut answer["response"];
        if response["uid"] != review["request"]["uid"] {
            return Err(Error::Said(format!("expected response.uid {}", review["request"]["uid"])));
        }
        if response["result"]["status"] != "Success" {
            let message = response["result"]["message"].as_str().unwrap_or("response did not say why");
            return Err(Error::Said(message.to_owned()));
        }
        match response["convertedObjects"].take() {
            Value::Array(converted) if converted.len() == objects.len() => Ok(converted),
            Value::Array(converted) => {
                Err(Error::Said(format!("webhook returned {} objects, expected {}", converted.len(), objects.len())))
            }
            _ => Err(Error::Said("webhook returned no objects".into())),
        }
    }
}

fn tls(bundle: &[u8]) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|error| Error::Certificates(error.to_string()))?;
        roots.add(certificate).map_err(|error| Error::Certificates(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(Error::Certificates("there are none".into()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Error::Certificates(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

type Posted = Result<(http::StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>;

async fn post(target: &Target, tls: ClientConfig, review: &Value) -> Posted {
    let name = ServerName::try_from(target.host.trim_matches(['[', ']']).to_owned())?;
    let (address, port) = &target.connect;
    let tcp = TcpStream::connect((address.as_str(), *port)).await?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::post(&target.path)
        .header(HOST, &target.host)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(review)?)))?;
    // Polled here, beside the exchange that it carries: nothing outlives the call.
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok((status, bytes))
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // Servers end connections in many ways; whether the answer came is what counts.
        _ = &mut connection => exchange.await,
    }
}

/// A conversion may change labels and annotations, nothing else of metadata.
fn kept(before: &Value, mut after: Value, to: &GroupVersion) -> Result<Value, Error> {
    if after["apiVersion"] != to.to_string() || after["kind"] != before["kind"] {
        let said = &after["apiVersion"];
        return Err(Error::Said(format!("webhook returned an object of {said}, expected {:?}", to.to_string())));
    }
    let mut metadata = before["metadata"].clone();
    for name in ["labels", "annotations"] {
        match (after["metadata"][name].take(), metadata.as_object_mut()) {
            (Value::Null, Some(fields)) => drop(fields.remove(name)),
            (value, Some(fields)) => drop(fields.insert(name.into(), value)),
            _ => {}
        }
    }
    after["metadata"] = metadata;
    Ok(after)
}

#[async_trait::async_trait]
impl Conversion for Webhook {
    async fn convert(&self, objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        let wanted = to.to_string();
        let other: Vec<Value> = objects.iter().filter(|object| object["apiVersion"] != wanted).cloned().collect();
        if other.is_empty() {
            return Ok(objects);
        }
        let failed = |error: Error| {
            let message = format!("conversion webhook for {} failed: {error}", self.kind);
            Status::new(Reason::InternalError, message)
        };
        let mut converted = self.ask(&other, to).await.map_err(failed)?.into_iter();
        objects
            .into_iter()
            .map(|object| match object["apiVersion"] == wanted {
                true => Ok(object),
                false => kept(&object, converted.next().unwrap_or_default(), to).map_err(failed),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_kept_but_for_labels_and_annotations() {
        let to = GroupVersion::parse("example.com/v2").expect("a version");
        let before = json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "a", "uid": "1", "labels": {"x": "y"}}});
        let after = json!({"apiVersion": "example.com/v2", "kind": "X", "metadata": {"name": "b", "annotations": {"p": "q"}}, "spec": {}});
        let kept_ = kept(&before, after, &to).expect("a good conversion");
        assert_eq!(kept_["metadata"], json!({"name": "a", "uid": "1", "annotations": {"p": "q"}}));
        for bad in [
            json!({}),
            json!({"apiVersion": "example.com/v1", "kind": "X"}),
            json!({"apiVersion": "example.com/v2", "kind": "Y"}),
        ] {
            assert!(kept(&before, bad, &to).is_err());
        }
    }

    #[test]
    fn bad_certificates_are_refused() {
        for bundle in [&b""[..], b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(tls(bundle).is_err());
        }
    }
}
