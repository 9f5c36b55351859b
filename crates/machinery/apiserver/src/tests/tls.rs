//! Over a real socket: handshakes, credentials, upgrades, HTTP/2 and the drain.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body::Frame;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

struct Running {
    authority: CertifiedIssuer<'static, KeyPair>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
    widgets: Arc<fake::Fake>,
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Pair {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn roots(authority: &CertifiedIssuer<'static, KeyPair>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    roots
}

async fn start(limits: Limits) -> Running {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let (chain, key) = issue(&authority, "localhost");
    let tls = Arc::new(crate::tls_config(chain, key, roots(&authority)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let (server, widgets) = server_with(limits);
    let ended = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        server.serve(listener, tls, shutdown).await;
    });
    Running { authority, address, stop, ended, widgets }
}

impl Running {
    async fn connect(&self, identity: Option<Pair>, protocol: &[u8]) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&self.authority));
        let mut config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn client(&self, identity: Option<Pair>) -> http1::SendRequest<Full<Bytes>> {
        let stream = self.connect(identity, b"http/1.1").await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap();
    }
}

fn request(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "localhost")
}

fn empty(request: http::request::Builder) -> Request<Full<Bytes>> {
    request.body(Full::default()).unwrap()
}

#[tokio::test]
async fn callers_are_who_they_prove_to_be() {
    let running = start(Limits::default()).await;
    let mut stranger = running.client(None).await;
    assert_eq!(stranger.send_request(empty(request("/readyz"))).await.unwrap().status(), 200);
    assert_eq!(stranger.send_request(empty(request("/version"))).await.unwrap().status(), 200);
    let refused = stranger.send_request(empty(request(PATH))).await.unwrap();
    assert_eq!(refused.status(), 401);
    let status: Value = serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!((&status["reason"], &status["message"]), (&json!("Unauthorized"), &json!("Unauthorized")));

    let with = |token: &str| empty(request(PATH).header("authorization", format!("Bearer {token}")));
    assert_eq!(stranger.send_request(with("alice")).await.unwrap().status(), 200);
    assert_eq!(stranger.send_request(with("mallory")).await.unwrap().status(), 403);
    assert_eq!(stranger.send_request(with("bad")).await.unwrap().status(), 401);
    let basic = empty(request("/readyz").header("authorization", "Basic eDp5"));
    assert_eq!(stranger.send_request(basic).await.unwrap().status(), 401, "unknown credentials are bad ones");

    let identity = issue(&running.authority, "client");
    let mut known = running.client(Some(identity)).await;
    assert_eq!(known.send_request(empty(request(PATH))).await.unwrap().status(), 200);
    drop((stranger, known));
    running.stop().await;
}

#[tokio::test]
async fn a_foreign_certificate_does_not_connect() {
    let running = start(Limits::default()).await;
    let other = start(Limits::default()).await;
    let stream = running.connect(Some(issue(&other.authority, "client")), b"http/1.1").await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert!(sender.send_request(empty(request("/readyz"))).await.is_err());
    running.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_full_server_says_when_to_come_back() {
    let running = start(Limits { read_only: 0, mutating: 0, ..Limits::default() }).await;
    let mut client = running.client(Some(issue(&running.authority, "client"))).await;
    let response = client.send_request(empty(request(PATH))).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &http::HeaderValue::from(1)));
    let watch = client.send_request(empty(request(&format!("{PATH}?watch=1")))).await.unwrap();
    assert_eq!(watch.status(), 200, "a watch needs no seat");
    drop((client, watch));
    running.stop().await;
}

#[tokio::test]
async fn an_oversized_body_is_answered() {
    let running = start(Limits::default()).await;
    let mut client = running.client(Some(issue(&running.authority, "client"))).await;
    let body = Full::new(Bytes::from(vec![b' '; crate::body::LIMIT + 1]));
    let request = Request::post(PATH).header("host", "localhost").body(body).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 413);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_arrives() {
    let running = start(Limits::default()).await;
    let stream = running.connect(Some(issue(&running.authority, "client")), b"h2").await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let (pieces, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(body));
    let request = Request::delete("https://localhost/version").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 405);
    let status = response.into_body().collect().await.unwrap().to_bytes();
    assert!(status.starts_with(b"{\"kind\":\"Status\""));
    pieces.send(Ok(Frame::data(Bytes::from_static(b"late")))).await.unwrap();
    drop((pieces, sender));
    connection.await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn an_upgraded_connection_reaches_the_handler() {
    let running = start(Limits::default()).await;
    let mut client = running.client(Some(issue(&running.authority, "client"))).await;
    let upgrade = request(&format!("{PATH}/a/exec")).header("connection", "upgrade").header("upgrade", "echo");
    let response = client.send_request(empty(upgrade)).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    drop((client, stream));
    running.stop().await;
}

#[tokio::test]
async fn a_drain_ends_watches_and_waits_for_writes() {
    let running = start(Limits::default()).await;
    running.widgets.put("a", json!({ "metadata": {} }));
    let stream = running.connect(Some(issue(&running.authority, "client")), b"h2").await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = |query: &str| format!("https://localhost{PATH}{query}");
    let send = |request: Request<Full<Bytes>>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await.unwrap() }
    };
    let watch = send(Request::get(url("?watch=1")).body(Full::default()).unwrap()).await;
    assert_eq!(watch.version(), http::Version::HTTP_2);
    let mut events = watch.into_body();
    assert!(events.frame().await.unwrap().unwrap().data_ref().unwrap().starts_with(b"{\"type\":\"ADDED\""));

    let slow = br#"{"metadata":{"name":"slow"}}"#;
    let write = tokio::spawn(send(Request::post(url("")).body(Full::new(Bytes::from_static(slow))).unwrap()));
    running.widgets.waiting.notified().await;
    running.stop.send(()).unwrap();
    let rest = events.collect().await.unwrap().to_bytes();
    assert_eq!(rest, Bytes::new(), "the watch ends with the drain, and ends well");
    running.widgets.release.notify_one();
    assert_eq!(write.await.unwrap().status(), 201, "the write under way is answered");
    drop(sender);
    running.ended.await.unwrap();
}
