//! A caller, the proxy and a node, joined by real TLS and real HTTP upgrades.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::service::service_fn;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use http::header::UPGRADE;

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    fn leaf(&self, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed").der().clone();
        (certificate, PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        Arc::new(roots)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_config(ours: &Authority, trusted: &Authority) -> Arc<rustls::ClientConfig> {
    let (certificate, key) = ours.leaf(&["apiserver"]);
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(trusted.roots())
        .with_client_auth_cert(vec![certificate], key)
        .expect("a client");
    Arc::new(config)
}

/// A node that asks for client certificates, prints logs, refuses `/missing`, and echoes what an upgrade sends.
async fn node(authority: &Authority, tasks: &Tasks) -> NodeAddress {
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(authority.roots(), provider());
    let (certificate, key) = authority.leaf(&["127.0.0.1"]);
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![certificate], key)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let owner = tasks.clone();
    tasks.spawn("node", async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            owner.spawn("node connection", async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tls), service_fn(answer))
                    .with_upgrades();
                // The other side hangs up as it likes.
                let _ = served.await;
            });
        }
    });
    NodeAddress { node: "n".into(), ip: "127.0.0.1".parse().expect("an address"), port }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |code, text: &str| {
        let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
        *response.status_mut() = code;
        response
    };
    if request.headers().contains_key("authorization") {
        return Ok(text(StatusCode::INTERNAL_SERVER_ERROR, "credentials leaked"));
    }
    if request.headers().contains_key(UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("upgraded"));
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.expect("read");
            word.reverse();
            stream.write_all(&word).await.expect("written");
        });
        let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        "/missing" => text(StatusCode::NOT_FOUND, "container \"c\" not found\n"),
        path => text(StatusCode::OK, &format!("log of {path}?{}", request.uri().query().unwrap_or(""))),
    })
}

fn get() -> Request<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Request::get("/").header("authorization", "Bearer secret").body(body).expect("a request")
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn logs_come_through_and_refusals_keep_their_words() {
    let (authority, tasks) = (Authority::new(), Tasks::root("test"));
    let node = node(&authority, &tasks).await;
    let proxy = NodeProxy { tls: client_config(&authority, &authority), tasks: tasks.clone() };
    let response = proxy.forward(&node, "/containerLogs/a/p/c?tailLines=1", get()).await.expect("an answer");
    assert_eq!(text(response).await, "log of /containerLogs/a/p/c?tailLines=1");
    let refused = proxy.forward(&node, "/missing", get()).await.expect_err("refused");
    assert_eq!((refused.code, refused.message.as_str()), (404, "container \"c\" not found"));
}

#[tokio::test]
async fn an_upgrade_is_joined_both_ways() {
    let (authority, tasks) = (Authority::new(), Tasks::root("test"));
    let node = node(&authority, &tasks).await;
    let proxy = NodeProxy { tls: client_config(&authority, &authority), tasks: tasks.clone() };
    let (near, far) = tokio::io::duplex(4096);
    tasks.spawn("server", async move {
        let serve = service_fn(move |request: Request<Incoming>| {
            let (proxy, node) = (proxy.clone(), node.clone());
            async move {
                let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                proxy.forward(&node, "/exec/a/p/c?command=sh&input=1", request).await
            }
        });
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), serve);
        served.with_upgrades().await.expect("served");
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.expect("connected");
    tasks.spawn("client", async move { connection.with_upgrades().await.expect("a connection") });
    let request = Request::get("/exec").header(UPGRADE, "websocket").header(CONNECTION, "Upgrade");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    let mut response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgraded"));
    stream.write_all(b"hello").await.expect("written");
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.expect("read");
    assert_eq!(&back, b"olleh");
    assert_eq!(stream.read(&mut back).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_or_trusted_is_an_error_that_says_so() {
    let (authority, stranger, tasks) = (Authority::new(), Authority::new(), Tasks::root("test"));
    let node = node(&authority, &tasks).await;
    let distrusting = NodeProxy { tls: client_config(&authority, &stranger), tasks: tasks.clone() };
    let status = distrusting.forward(&node, "/", get()).await.expect_err("not trusted");
    assert!(status.message.contains("error dialing backend: node n cannot be reached: TLS handshake"), "{status}");

    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let proxy = NodeProxy { tls: client_config(&authority, &authority), tasks };
    let status = proxy.forward(&NodeAddress { port, ..node }, "/", get()).await.expect_err("nobody there");
    assert_eq!(status.code, 500);
    assert!(status.message.contains(&format!("dial tcp 127.0.0.1:{port}: Connection refused")), "{status}");
}

#[test]
fn a_nodes_address_comes_from_its_status() {
    let node =
        |status| serde_json::from_value::<Node>(json!({"metadata": {"name": "n"}, "status": status})).expect("a node");
    let good = node(json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}));
    let address = NodeAddress::of(&good).expect("an address");
    assert_eq!(address, NodeAddress { node: "n".into(), ip: "10.0.0.1".parse().expect("an IP"), port: 10250 });
    let no_port = node(json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}));
    let no_ip = node(json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}));
    for bad in [no_port, no_ip] {
        assert_eq!(NodeAddress::of(&bad).expect_err("incomplete").code, 500);
    }
}

#[test]
fn credentials_stay_here() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let kept = forwarded(&headers);
    assert!(!kept.contains_key("authorization"));
    assert_eq!(kept.len(), 3);
    headers.remove("upgrade");
    assert!(!forwarded(&headers).contains_key("connection"));
}
