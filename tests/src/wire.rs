//! Requests of a program that keeps its connection: HTTP/2 from the cluster's own network namespace, bodies of any kind,
//! watches beside other requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::cluster::{Cluster, Options, PATIENCE};
use crate::kubeconfig::Kubeconfig;
use crate::must;
use crate::place::Place;

pub const JSON: &str = "application/json";
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Makes connections with the administrator's certificate.
#[derive(Clone)]
pub struct Connector {
    address: SocketAddr,
    tls: TlsConnector,
}

/// One connection; clones share it.
#[derive(Clone)]
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

/// A whole answer.
#[derive(Debug)]
pub struct Whole {
    pub code: u16,
    /// The media type alone.
    pub media: String,
    pub body: Bytes,
}

/// The body of a watch as it comes.
pub struct Stream {
    body: Incoming,
    buffer: BytesMut,
}

/// A test of a control plane alone, whose connections begin in its namespace.
pub fn without_node(test: impl AsyncFnOnce(&Cluster, Connector) -> Result<()> + Send) {
    must((|| {
        let arguments = vec!["--disable-agent".to_owned()];
        let cluster = Cluster::start(Options { arguments, quiet: true, ..Options::default() })?;
        let connector = Connector::new(&cluster)?;
        Place::node(&cluster)?.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(test(&cluster, connector))
        })?;
        cluster.finish()
    })());
}

impl Connector {
    pub fn new(cluster: &Cluster) -> Result<Self> {
        let config = Kubeconfig::read(cluster)?;
        let address = config.server.strip_prefix("https://").context("the server speaks HTTPS")?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(config.authority.as_bytes()).context("the authority")?)?;
        let chain = CertificateDer::pem_slice_iter(config.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(config.key.as_bytes()).context("the key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let address = address.parse().with_context(|| format!("the server's address: {address}"))?;
        Ok(Self { address, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// From the calling thread's network namespace.
    pub async fn connect(&self) -> Result<Http> {
        let tcp = tokio::net::TcpStream::connect(self.address).await.context("connecting")?;
        tcp.set_nodelay(true)?;
        let tls = self.tls.connect(ServerName::from(self.address.ip()), tcp).await.context("TLS")?;
        let (sender, connection) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Http { sender, host: self.address.to_string() })
    }
}

impl Http {
    async fn answer(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let mut request = http::Request::builder().method(method).uri(format!("https://{}{path}", self.host));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).with_context(|| format!("{method} {path}"))?;
        let mut sender = self.sender.clone();
        let answer = async move {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let answer =
            tokio::time::timeout(PATIENCE, answer).await.with_context(|| format!("{method} {path}: no answer"))?;
        answer.with_context(|| format!("{method} {path}"))
    }

    /// Any request, with its whole answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Whole> {
        let answer = self.answer(method, path, headers, body.into()).await?;
        let code = answer.status().as_u16();
        let media = answer.headers().get("content-type").and_then(|media| media.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().to_owned();
        let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
        let body = body.with_context(|| format!("{method} {path}: the answer does not end"))??.to_bytes();
        Ok(Whole { code, media, body })
    }

    /// A JSON body, where it is not null.
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Result<Whole> {
        let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.request(method, path, &[("content-type", JSON)], bytes).await
    }

    pub async fn get(&self, path: &str, accept: &str) -> Result<Whole> {
        self.request("GET", path, &[("accept", accept)], "").await
    }

    /// A watch that has begun.
    pub async fn watch(&self, path: &str, accept: &str) -> Result<Stream> {
        let answer = self.answer("GET", path, &[("accept", accept)], Bytes::new()).await?;
        if answer.status() != 200 {
            let body = answer.into_body().collect().await?.to_bytes();
            bail!("GET {path}: {}", String::from_utf8_lossy(&body));
        }
        Ok(Stream { body: answer.into_body(), buffer: BytesMut::new() })
    }
}

impl Whole {
    /// The JSON of an answer with this code.
    pub fn expect(&self, code: u16) -> Result<Value> {
        ensure!(self.code == code, "{}, not {code}: {}", self.code, self.text());
        self.value()
    }

    pub fn value(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Stream {
    /// The next line, without its end; `None` when the watch has ended.
    pub async fn line(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1).freeze();
                return Ok(Some(line.slice(..end)));
            }
            if !self.more(PATIENCE).await? {
                ensure!(self.buffer.is_empty(), "the watch broke off");
                return Ok(None);
            }
        }
    }

    /// The next frame that goes after its own length.
    pub async fn frame(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(length) = self.buffer.first_chunk::<4>() {
                let length = usize::try_from(u32::from_be_bytes(*length))?;
                if self.buffer.len() >= 4 + length {
                    return Ok(Some(self.buffer.split_to(4 + length).freeze().slice(4..)));
                }
            }
            if !self.more(PATIENCE).await? {
                ensure!(self.buffer.is_empty(), "the watch broke off");
                return Ok(None);
            }
        }
    }

    async fn more(&mut self, patience: Duration) -> Result<bool> {
        let frame = tokio::time::timeout(patience, self.body.frame()).await.context("nothing comes of the watch")?;
        let Some(frame) = frame else { return Ok(false) };
        if let Ok(data) = frame?.into_data() {
            self.buffer.extend_from_slice(&data);
        }
        Ok(true)
    }
}
