//! Servers of this process, with real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base_tasks::Tasks;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{Body, ClientConfig, Dialer, Error, Resolver, Server, ServiceReference};

const SECOND: Duration = Duration::from_secs(1);

/// Every Service is where this says.
struct At(Result<SocketAddr, String>);

#[async_trait::async_trait]
impl Resolver for At {
    async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<(String, u16), String> {
        self.0.clone().map(|address| (address.ip().to_string(), address.port()))
    }
}

/// Answers with what it was sent, and counts connections. `/close` closes after its answer, `/hang` never answers,
/// `/upgrade` echoes.
struct Echo {
    address: SocketAddr,
    pem: String,
    connections: Arc<AtomicUsize>,
}

async fn echo(mut request: Request<hyper::body::Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/hang" {
        std::future::pending::<()>().await;
    }
    let closes = request.uri().path() == "/close";
    let full = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    if request.uri().path() == "/upgrade" {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
            let mut said = [0; 4];
            stream.read_exact(&mut said).await.expect("four bytes");
            stream.write_all(&said).await.expect("written");
        });
        let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header("upgrade", "echo");
        return Ok(answer.header("connection", "upgrade").body(full(Bytes::new())).expect("an answer"));
    }
    let host = request.headers()["host"].clone();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let mut answer = Response::new(full(body));
    answer.headers_mut().insert("x-host", host);
    if closes {
        answer.headers_mut().insert("connection", "close".parse().expect("a value"));
    }
    Ok(answer)
}

impl Echo {
    async fn start(name: &str) -> Self {
        let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![signed.cert.der().clone()], key).expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let connection = hyper::server::conn::http1::Builder::new();
                    drop(connection.serve_connection(TokioIo::new(tls), service_fn(echo)).with_upgrades().await);
                });
            }
        });
        Self { address, pem: signed.cert.pem(), connections }
    }

    fn config(&self) -> ClientConfig {
        ClientConfig {
            service: Some(ServiceReference { namespace: "ns".into(), name: "hook".into(), ..Default::default() }),
            ca_bundle: Some(ByteString(self.pem.clone().into_bytes())),
            ..Default::default()
        }
    }

    fn server(&self) -> Server {
        self.dialer().server(&self.config()).expect("a server")
    }

    fn dialer(&self) -> Dialer {
        Dialer::new(Arc::new(At(Ok(self.address))), Tasks::root("test"))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn call(server: &Server, path: &str) -> Result<(StatusCode, Bytes), Error> {
    server.call(path, Bytes::from_static(b"hello"), SECOND, 1024).await
}

#[tokio::test]
async fn calls_share_a_connection() {
    let echo = Echo::start("hook.ns.svc").await;
    let server = echo.server();
    for _ in 0..3 {
        assert_eq!(call(&server, "/x?timeout=1s").await.expect("an answer").1, "hello");
    }
    assert_eq!((echo.connections(), server.idle.idle()), (1, 1));
    // One that the server closes is not used again.
    call(&server, "/close").await.expect("an answer");
    call(&server, "/").await.expect("an answer");
    assert_eq!(echo.connections(), 2);
}

#[tokio::test]
async fn two_at_once_take_two_connections() {
    let echo = Echo::start("hook.ns.svc").await;
    let server = echo.server();
    let (one, two) = tokio::join!(call(&server, "/"), call(&server, "/"));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!((echo.connections(), server.idle.idle()), (2, 2));
}

#[tokio::test]
async fn idle_connections_end() {
    let echo = Echo::start("hook.ns.svc").await;
    let server = echo.server();
    call(&server, "/").await.expect("an answer");
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(91)).await;
    assert_eq!(server.idle.idle(), 0);
}

#[tokio::test]
async fn failures_read_as_go_s_do() {
    let echo = Echo::start("hook.ns.svc").await;
    let text = |error: Result<(StatusCode, Bytes), Error>| error.expect_err("a failure").to_string();
    let stranger = Echo::start("hook.ns.svc").await;
    let server = echo.dialer().server(&stranger.config()).expect("a server");
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(text(call(&server, "/").await), unknown);
    let mut anyone = stranger.config();
    anyone.insecure_skip_tls_verify = true;
    assert!(call(&echo.dialer().server(&anyone).expect("a server"), "/").await.is_ok());

    let other = Echo::start("other.ns.svc").await;
    let misnamed = text(call(&other.server(), "/").await);
    assert!(misnamed.starts_with("tls: failed to verify certificate: x509: "), "{misnamed}");

    let nowhere = Dialer::new(Arc::new(At(Err("no such service".into()))), Tasks::root("test"));
    assert_eq!(text(call(&nowhere.server(&echo.config()).expect("a server"), "/").await), "no such service");

    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let dead = Dialer::new(Arc::new(At(Ok(free))), Tasks::root("test"));
    let refused = format!("dial tcp {free}: connect: connection refused");
    assert_eq!(text(call(&dead.server(&echo.config()).expect("a server"), "/").await), refused);

    let server = echo.server();
    let hung = server.call("/hang", Bytes::new(), Duration::from_millis(50), 1024).await;
    assert_eq!(text(hung), "context deadline exceeded");
    let large = server.call("/", Bytes::from(vec![b' '; 2048]), SECOND, 1024).await;
    assert!(matches!(large, Err(Error::TooLarge)));
    assert!(matches!(call(&server, "no path\n").await, Err(Error::Url(_))));

    let unknown = ClientConfig { url: Some("https://nobody.invalid/x".into()), ..Default::default() };
    let lookup = text(call(&echo.dialer().server(&unknown).expect("a server"), "/").await);
    assert_eq!(lookup, "dial tcp: lookup nobody.invalid: no such host");
}

#[tokio::test]
async fn streams_pass_and_their_connection_is_kept() {
    let echo = Echo::start("hook.ns.svc").await;
    let server = echo.server();
    for _ in 0..2 {
        let body = Full::new(Bytes::from_static(b"stream")).map_err(|never| match never {}).boxed_unsync();
        let answer = server.send(Request::post("/x").body(body).expect("a request")).await.expect("an answer");
        assert_eq!(answer.headers()["x-host"], "hook.ns.svc:443");
        assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "stream");
        while server.idle.idle() == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(echo.connections(), 1);
}

/// A client of this process's proxy of the echo server: its upgrade ends at the echo.
#[tokio::test]
async fn upgrades_are_joined() {
    let echo = Echo::start("hook.ns.svc").await;
    let server = Arc::new(echo.server());
    let (client, proxy) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let pass = service_fn(move |request: Request<hyper::body::Incoming>| {
            let server = server.clone();
            async move {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                server.send(request).await.map_err(std::io::Error::other)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(proxy), pass);
        drop(connection.with_upgrades().await);
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.expect("http");
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/upgrade").header("connection", "upgrade").header("upgrade", "echo");
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.expect("an upgrade"));
    stream.write_all(b"ping").await.expect("written");
    let mut said = [0; 4];
    stream.read_exact(&mut said).await.expect("an echo");
    assert_eq!(&said, b"ping");
}
