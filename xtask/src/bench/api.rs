//! A bare API client: one connection, JSON as bytes, so that its own work does not show in what is measured.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::report::Absent;

/// A frame of a WebSocket's client: masked, by zeros, and empty.
const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
const SUCCESS: &[u8] = br#""status":"Success""#;

/// Where the API is and who asks, from the admin's kubeconfig.
#[derive(Clone)]
pub(super) struct Api {
    authority: String,
    address: SocketAddr,
    name: ServerName<'static>,
    tls: TlsConnector,
    /// In PEM, for programs that read files.
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Api {
    pub(super) fn new(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
        let config: Value = serde_norway::from_str(&text).context("parsing the kubeconfig")?;
        let text = |pointer: &str| {
            config.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in the kubeconfig"))
        };
        let pem = |pointer: &str| -> Result<String> {
            let decoded = STANDARD.decode(text(pointer)?).with_context(|| format!("decoding {pointer}"))?;
            String::from_utf8(decoded).with_context(|| format!("{pointer} is no text"))
        };
        let server = text("/clusters/0/cluster/server")?;
        let authority = server.strip_prefix("https://").context("the server's URL is not https")?.trim_end_matches('/');
        let address: SocketAddr = authority.parse().with_context(|| format!("{authority} is no address and port"))?;
        let mut roots = RootCertStore::empty();
        let ca = pem("/clusters/0/cluster/certificate-authority-data")?;
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).map_err(|e| anyhow!("the authority: {e}"))?)?;
        let certificate = pem("/users/0/user/client-certificate-data")?;
        let key = pem("/users/0/user/client-key-data")?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|e| anyhow!("the client's certificate: {e}"))?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| anyhow!("the client's key: {e}"))?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private)?;
        Ok(Self {
            authority: authority.to_owned(),
            address,
            name: ServerName::from(address.ip()),
            tls: TlsConnector::from(Arc::new(tls)),
            certificate,
            key,
        })
    }

    /// For programs that take a URL.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority)
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let tcp = TcpStream::connect(self.address).await.with_context(|| format!("connecting to {}", self.address))?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(self.name.clone(), tcp).await.context("the TLS handshake")?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.context("starting HTTP")?;
        // Ends with the connection; its error shows at the request that meets it.
        tokio::spawn(connection.with_upgrades());
        Ok(Connection { sender, authority: self.authority.clone() })
    }

    /// Runs a command in a container by a connection of its own, until it has succeeded.
    pub(super) async fn exec(&self, path: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        let request = Request::builder()
            .uri(path)
            .header("host", &self.authority)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", STANDARD.encode([7; 16]))
            .header("sec-websocket-protocol", "v5.channel.k8s.io")
            .body(Full::default())
            .context("building a request")?;
        let response = connection.sender.send_request(request).await.with_context(|| format!("asking for {path}"))?;
        ensure!(response.status() == StatusCode::SWITCHING_PROTOCOLS, "{path}: {}", response.status());
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.context("the upgrade")?);
        // The server waits a while for an answer to its ping, as every client gives it.
        stream.write_all(PONG).await.context("answering the ping")?;
        // What the server sends is not masked, and its last message says how it went.
        let mut said = BytesMut::new();
        while !said.windows(SUCCESS.len()).any(|part| part == SUCCESS) {
            let read = stream.read_buf(&mut said).await.context("reading the streams")?;
            ensure!(read > 0, "the streams ended with {:?}", String::from_utf8_lossy(&said));
        }
        Ok(())
    }

    /// Opens a watch on a connection of its own. What exists already comes first, as ADDED.
    pub(super) async fn watch(&self, collection: &str, query: &str) -> Result<Events> {
        let mut connection = self.connect().await?;
        let response = connection.send(Method::GET, &format!("{collection}?watch=1{query}"), "").await?;
        if response.status() != StatusCode::OK {
            let (status, body) = whole(response).await?;
            return Err(refused(&Method::GET, collection, status, &body));
        }
        Ok(Events { body: response.into_body(), buffer: BytesMut::new(), _connection: connection })
    }
}

/// One keep-alive connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    async fn send(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Response<Incoming>> {
        let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority)
            .header("accept", "application/json")
            .header("content-type", media)
            .body(Full::new(body.into()))
            .context("building a request")?;
        self.sender.ready().await.context("the connection ended")?;
        self.sender.send_request(request).await.with_context(|| format!("asking for {path}"))
    }

    /// The whole answer, whatever its status.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes)> {
        whole(self.send(method, path, body).await?).await
    }

    /// The body of a successful answer.
    pub(super) async fn call(&mut self, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        if status.is_success() { Ok(answer) } else { Err(refused(&method, path, status, &answer)) }
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call(Method::GET, path, "").await?)?)
    }

    pub(super) async fn create(&mut self, collection: &str, object: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.call(Method::POST, collection, object.to_string()).await?)?)
    }
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes)> {
    let status = response.status();
    Ok((status, response.into_body().collect().await.context("reading an answer")?.to_bytes()))
}

/// A path that the server does not know is an absent feature; a missing object has its name in the answer.
fn refused(method: &Method, path: &str, status: StatusCode, answer: &[u8]) -> anyhow::Error {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let named = answer.pointer("/details/name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if status == StatusCode::NOT_FOUND && !named {
        return Absent(path.to_owned()).into();
    }
    anyhow!("{method} {path}: {status}: {}", answer["message"].as_str().unwrap_or("no message"))
}

/// A watch: one JSON event a line.
pub(super) struct Events {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

impl Events {
    pub(super) async fn line(&mut self) -> Result<Bytes> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Ok(self.buffer.split_to(end + 1).freeze());
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.context("reading a watch")?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => bail!("the watch ended"),
            }
        }
    }

    pub(super) async fn next(&mut self) -> Result<Event> {
        let line = self.line().await?;
        let mut event: Value = serde_json::from_slice(&line).context("parsing a watch event")?;
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        ensure!(kind != "ERROR", "the watch failed: {}", event["object"]);
        Ok(Event { gone: kind == "DELETED", object: event["object"].take() })
    }
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) gone: bool,
    pub(super) object: Value,
}

impl Event {
    pub(super) fn name(&self) -> &str {
        self.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the object has this condition, true.
    pub(super) fn condition(&self, kind: &str) -> bool {
        let conditions = self.object.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|condition| condition["type"] == kind && condition["status"] == "True")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_path_is_absent_and_a_missing_object_is_not() {
        let answer = json!({"message": "the server could not find the requested resource", "details": {}}).to_string();
        let error = refused(&Method::GET, "/apis/x", StatusCode::NOT_FOUND, answer.as_bytes());
        assert!(error.downcast_ref::<Absent>().is_some());
        let answer = json!({"message": "pods \"a\" not found", "details": {"name": "a"}}).to_string();
        let error = refused(&Method::GET, "/api", StatusCode::NOT_FOUND, answer.as_bytes());
        assert!(error.downcast_ref::<Absent>().is_none());
        assert!(refused(&Method::GET, "/api", StatusCode::FORBIDDEN, b"<html>").to_string().contains("no message"));
    }

    #[test]
    fn a_broken_kubeconfig_is_explained() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, wanted) in [
            ("a: [", "parsing"),
            ("a: 1", "no /clusters"),
            ("clusters: [{cluster: {server: 'http://x'}}]", "not https"),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = Api::new(file.path()).err().unwrap();
            assert!(format!("{error:#}").contains(wanted), "{error:#}");
        }
    }
}
