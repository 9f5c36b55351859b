//! The API server of another process, over one HTTP/2 connection that is made anew when it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use http::header::AUTHORIZATION;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// A server that is gone is noticed after both, while anything is asked of it (a watch, say).
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
/// Lists are long; the default window of 64 KB makes them slow over a distance.
const WINDOW: u32 = 1 << 20;
const PORT: u16 = 443;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} does not name a server: expected https://HOST:PORT")]
    Server(Uri),
    #[error("{0:?} does not name a TLS server")]
    Name(String),
    #[error("connect to {server}")]
    Connect { server: Authority, source: io::Error },
    #[error("{0} did not answer in time")]
    Timeout(Authority),
    #[error("speak HTTP/2 with {server}")]
    Http { server: Authority, source: hyper::Error },
    #[error("ask for {0}")]
    Uri(Box<str>),
}

/// How to reach it, and as whom. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Remote(Arc<Shared>);

struct Shared {
    server: Authority,
    name: ServerName<'static>,
    tls: TlsConnector,
    bearer: Option<HeaderValue>,
    connection: Mutex<Option<SendRequest<Body>>>,
    tasks: Tasks,
}

impl Remote {
    /// What an https URL of a server names.
    pub fn check(server: &Uri) -> Result<&Authority, Error> {
        let https = server.scheme() == Some(&Scheme::HTTPS) && matches!(server.path(), "" | "/");
        server.authority().filter(|_| https).ok_or_else(|| Error::Server(server.clone()))
    }

    /// Connects at the first request. `tls` says whom to believe and which certificate to show, `bearer` is sent with
    /// every request; connections run under `tasks`.
    pub fn new(
        tasks: &Tasks,
        server: &Uri,
        mut tls: rustls::ClientConfig,
        bearer: Option<HeaderValue>,
    ) -> Result<Self, Error> {
        let authority = Self::check(server)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| Error::Name(host))?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(Shared {
            server: authority.clone(),
            name,
            tls: TlsConnector::from(Arc::new(tls)),
            bearer,
            connection: Mutex::default(),
            tasks: tasks.child("connection"),
        })))
    }

    pub fn client(&self) -> kube::Client {
        let remote = self.clone();
        crate::over(tower::service_fn(move |request| {
            let remote = remote.clone();
            async move { remote.send(request).await }
        }))
    }

    /// The next request makes a new connection, with whatever certificate is shown by then; what runs ends by itself.
    pub async fn reconnect(&self) {
        self.0.connection.lock().await.take();
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(self.0.server.clone()).path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|_| Error::Uri(path.into()))?;
        if let Some(bearer) = &self.0.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let mut connection = self.connection().await?;
        let sent = connection.send_request(request).await;
        sent.map_err(|source| Error::Http { server: self.0.server.clone(), source })
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Error> {
        // Whoever else asks meanwhile waits for the same connection.
        let mut current = self.0.connection.lock().await;
        if let Some(open) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(open.clone());
        }
        let timeout = |_| Error::Timeout(self.0.server.clone());
        let connection = tokio::time::timeout(CONNECT, self.connect()).await.map_err(timeout)??;
        *current = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let Shared { server, name, tls, tasks, .. } = &*self.0;
        let failed = |source| Error::Connect { server: server.clone(), source };
        let host = server.host().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, server.port_u16().unwrap_or(PORT))).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let stream = tls.connect(name.clone(), stream).await.map_err(failed)?;
        let mut http = Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PONG);
        http.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let handshake = http.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|source| Error::Http { server: server.clone(), source })?;
        let server = server.clone();
        tasks.spawn("run", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%server, error = &error as &dyn std::error::Error, "the connection ended");
            }
        });
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(server: &str) -> Result<Remote, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("versions").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        Remote::new(&Tasks::root("test"), &server.parse().expect("a URI"), tls, None)
    }

    #[tokio::test]
    async fn servers_are_named_by_https_urls() {
        for good in ["https://192.0.2.1:6443", "https://example.org", "https://[fd00::1]:6443/"] {
            assert!(remote(good).is_ok(), "{good}");
        }
        for bad in ["http://192.0.2.1:6443", "192.0.2.1:6443", "https://a/b", "/x"] {
            assert!(matches!(remote(bad), Err(Error::Server(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named() {
        let refused = remote("https://127.0.0.1:1").expect("a server").connection().await;
        assert_eq!(refused.err().map(|error| error.to_string()).as_deref(), Some("connect to 127.0.0.1:1"));
    }
}
