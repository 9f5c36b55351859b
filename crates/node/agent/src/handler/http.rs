//! One GET of a container.

use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Target, address, dial, port};
use crate::seams::{chain, words};

/// A request that is ready to be sent.
pub struct HttpGet<'a> {
    action: &'a HTTPGetAction,
    agent: &'static str,
    address: SocketAddr,
    tls: bool,
    path: String,
    authority: String,
}

impl<'a> HttpGet<'a> {
    pub async fn new(action: &'a HTTPGetAction, target: &Target, agent: &'static str) -> Result<Self, String> {
        let port = port(&action.port, target)?;
        let address = address(action.host.as_deref(), port, target).await?;
        let tls = action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let path = action.path.as_deref().unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = action.host.clone().filter(|host| !host.is_empty());
        let authority = host.map_or_else(|| address.to_string(), |host| format!("{host}:{port}"));
        Ok(Self { action, agent, address, tls, path, authority })
    }

    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.path)
    }

    /// The answer's status code. A redirect is not followed, so the request never leaves the pod.
    pub async fn send(&self) -> Result<u16, String> {
        let stream = dial(self.address).await?;
        if self.tls {
            let name = rustls_pki_types::ServerName::IpAddress(self.address.ip().into());
            let stream = connector().connect(name, stream).await.map_err(|error| words(&error))?;
            request(stream, self).await
        } else {
            request(stream, self).await
        }
    }
}

async fn request<S>(stream: S, get: &HttpGet<'_>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let mut request = http::Request::get(&get.path)
        .header("host", &get.authority)
        .header("user-agent", get.agent)
        .header("accept", "*/*")
        .header("connection", "close");
    for header in get.action.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            request.headers_mut().map(|headers| headers.remove("host"));
        }
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| chain(&error))?;
    let answer = async { sender.send_request(request).await.map_err(|error| chain(&error)) };
    tokio::pin!(answer);
    // Dropping both closes the socket. When the connection ends first, the answer is there or never comes.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    answer.map(|answer| answer.status().as_u16())
}

/// Verifies no certificate, as upstream: the pod's own names no address.
fn connector() -> tokio_rustls::TlsConnector {
    let config = machinery_dial::tls::config(machinery_dial::tls::Trust::Anyone, None);
    let mut config = config.expect("ring supports the default protocol versions");
    // Whatever the server speaks first.
    config.alpn_protocols.clear();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
