//! One server: connections to it, and requests over them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Place, Target};
use crate::pool::Pool;
use crate::tls::{self, Trust};
use crate::{Body, ClientConfig, Error, upgrade};

/// Go's, of client-go's transport.
const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Says where Services are.
#[async_trait::async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// The host and port to connect to. An error is what the caller is told.
    async fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<(String, u16), String>;
}

/// Makes [`Server`]s. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    resolver: Arc<dyn Resolver>,
    /// Owns the connections.
    tasks: Tasks,
    identity: Option<Arc<dyn ResolvesClientCert>>,
}

impl Dialer {
    pub fn new(resolver: Arc<dyn Resolver>, tasks: Tasks) -> Self {
        Self { resolver, tasks, identity: None }
    }

    /// The same, of a client that shows a certificate to servers that ask.
    pub fn presenting(&self, identity: Arc<dyn ResolvesClientCert>) -> Self {
        Self { identity: Some(identity), ..self.clone() }
    }

    /// Nothing is connected yet; an error is of the configuration alone.
    pub fn server(&self, config: &ClientConfig) -> Result<Server, Error> {
        let Place { target, authority, path } = config.place()?;
        let bundle = config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0);
        let trust = match bundle {
            _ if config.insecure_skip_tls_verify => Trust::Anyone,
            [] => Trust::Host,
            bundle => Trust::Bundle(bundle),
        };
        let name = target.server_name();
        let name = ServerName::try_from(name.clone()).map_err(|_| Error::Url(name))?;
        let host = HeaderValue::from_str(&authority).map_err(|_| Error::Url(authority.clone()))?;
        Ok(Server {
            tls: TlsConnector::from(Arc::new(tls::config(trust, self.identity.clone())?)),
            resolver: self.resolver.clone(),
            tasks: self.tasks.clone(),
            idle: Pool::default(),
            name,
            host,
            target,
            authority,
            path,
        })
    }
}

/// A server, and idle connections to it. Dropping it ends them.
pub struct Server {
    resolver: Arc<dyn Resolver>,
    tasks: Tasks,
    tls: TlsConnector,
    target: Target,
    name: ServerName<'static>,
    host: HeaderValue,
    authority: String,
    path: String,
    pub(crate) idle: Pool,
}

impl Server {
    /// Of a path and query on this server, as messages name it.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("https://{}{path_and_query}", self.authority)
    }

    /// The configured path, which tells the server by when it must have answered.
    pub fn path_within(&self, timeout: Duration) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{separator}timeout={}s", self.path, timeout.as_secs())
    }

    /// POSTs JSON to `path_and_query`; an answer longer than `most` bytes is an error, and so is one that is not whole
    /// within `within`.
    pub async fn call(
        &self,
        path_and_query: &str,
        body: Bytes,
        within: Duration,
        most: usize,
    ) -> Result<(StatusCode, Bytes), Error> {
        timeout(within, self.exchange(path_and_query, body, most)).await.unwrap_or(Err(Error::TimedOut))
    }

    async fn exchange(&self, path: &str, body: Bytes, most: usize) -> Result<(StatusCode, Bytes), Error> {
        let uri: Uri = path.parse().map_err(|_| Error::Url(path.to_owned()))?;
        let json = HeaderValue::from_static("application/json");
        let request = || {
            let body = Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync();
            let mut request = Request::new(body);
            *request.method_mut() = http::Method::POST;
            request.uri_mut().clone_from(&uri);
            request.headers_mut().insert(CONTENT_TYPE, json.clone());
            request.headers_mut().insert(ACCEPT, json.clone());
            request
        };
        let (response, connection) = match self.over_idle(self.addressed(request())).await {
            // The server had gone while the connection was idle: what was sent was not heard.
            Tried::Unsent(_) | Tried::Failed(Error::Closed) => self.over_new(self.addressed(request())).await?,
            Tried::Failed(error) => return Err(error),
            Tried::Answered(response, connection) => (response, connection),
        };
        let status = response.status();
        let read = Limited::new(response.into_body(), most).collect().await;
        let bytes = read.map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => Error::http(error),
            None if error.is::<LengthLimitError>() => Error::TooLarge,
            None => Error::Http(error.to_string()),
        })?;
        self.idle.put_back(connection, &self.tasks).await;
        Ok((status, bytes.to_bytes()))
    }

    /// Sends the request, whose URI is a path and query, and answers with what comes back, both as streams. Where the client
    /// wants another protocol and the server agrees, their connections are joined.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        if upgrade::wanted(request.headers()) {
            let client = hyper::upgrade::on(&mut request);
            let mut connection = self.connect().await?;
            let sent = connection.send_request(self.addressed(request)).await;
            let response = sent.map_err(|error| Error::http(&error))?;
            return Ok(match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => upgrade::join(&self.tasks, client, response),
                _ => upgrade::answer(response),
            });
        }
        let (response, connection) = match self.over_idle(self.addressed(request)).await {
            Tried::Unsent(request) => self.over_new(*request).await?,
            Tried::Failed(error) => return Err(error),
            Tried::Answered(response, connection) => (response, connection),
        };
        self.idle.put_back_later(connection, &self.tasks);
        Ok(upgrade::answer(response))
    }

    fn addressed(&self, mut request: Request<Body>) -> Request<Body> {
        *request.version_mut() = http::Version::HTTP_11;
        request.headers_mut().entry(HOST).or_insert_with(|| self.host.clone());
        request
    }

    async fn over_idle(&self, request: Request<Body>) -> Tried {
        let mut request = request;
        while let Some(mut connection) = self.idle.take() {
            match connection.try_send_request(request).await {
                Ok(response) => return Tried::Answered(response, connection),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Tried::Failed(Error::http(error.error())),
                },
            }
        }
        Tried::Unsent(Box::new(request))
    }

    async fn over_new(&self, request: Request<Body>) -> Result<Answered, Error> {
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(|error| Error::http(&error))?;
        Ok((response, connection))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let (host, port) = match &self.target {
            Target::Host { host, port } => (host.clone(), *port),
            Target::Service { namespace, name, port } => {
                self.resolver.resolve(namespace, name, *port).await.map_err(Error::Unresolved)?
            }
        };
        let address = || match host.parse() {
            Ok(ip) => SocketAddr::new(ip, port).to_string(),
            Err(_) => format!("{host}:{port}"),
        };
        let late = |_| Error::Connect { address: address(), reason: "i/o timeout".into() };
        let tcp = timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await.map_err(late)?;
        let tcp = tcp.map_err(|error| Error::connect(&host, address(), &error))?;
        // Keystrokes must not wait for each other.
        tcp.set_nodelay(true).map_err(|error| Error::connect(&host, address(), &error))?;
        let tls = timeout(HANDSHAKE, self.tls.connect(self.name.clone(), tcp)).await;
        let tls = tls.map_err(|_| Error::Tls("net/http: TLS handshake timeout".into()))?;
        let tls = tls.map_err(|error| Error::tls(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(|error| Error::http(&error))?;
        self.tasks.spawn("dialed connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a dialed connection ended");
            }
        });
        Ok(sender)
    }
}

/// And the connection, which is not free before the answer has been read.
type Answered = (Response<Incoming>, SendRequest<Body>);

/// What became of a request over a connection that had been idle.
enum Tried {
    Answered(Response<Incoming>, SendRequest<Body>),
    /// Not a byte of it has left.
    Unsent(Box<Request<Body>>),
    Failed(Error),
}
