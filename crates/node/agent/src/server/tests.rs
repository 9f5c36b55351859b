//! The node API over real TLS on loopback, against the fakes.

use std::net::SocketAddr;
use std::sync::Arc;

use base_tasks::Tasks;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use machinery_client::ObjectKey;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::fakes::World;
use crate::pods::{ContainerView, View};

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn issue(&self, name: &str, group: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        Arc::new(roots)
    }

    fn server(&self) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let (chain, key) = self.issue("node", "nodes");
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(builder.allow_unauthenticated().build().unwrap())
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn client(&self, name: &str, group: &str) -> rustls::ClientConfig {
        let (chain, key) = self.issue(name, group);
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .unwrap()
    }
}

struct Bench {
    world: Arc<World>,
    pki: Pki,
    address: SocketAddr,
    view: watch::Sender<View>,
    dir: tempfile::TempDir,
    _tasks: Tasks,
}

type Client = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

impl Bench {
    async fn new() -> Self {
        let (world, pki) = (World::new(), Pki::new());
        let dir = tempfile::tempdir().unwrap();
        let machine = world.machine(dir.path());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "app"}]},
        }))
        .unwrap();
        let logs = dir.path().join("app");
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(logs.join("1.log"), "2026-01-01T00:00:00Z stdout F one\n").unwrap();
        let container = ContainerView { running: Some("c1".into()), attempt: Some(1), waiting: None, log_dir: logs };
        let containers = [("app".to_owned(), container)].into();
        let (view, viewer) = watch::channel(View { pod: Arc::new(pod), containers, ..View::default() });
        machine.pods.insert(ObjectKey::new("default", "web"), viewer, tokio::sync::mpsc::unbounded_channel().0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::root("test");
        listen(&tasks, listener, pki.server(), machine);
        Self { world, pki, address, view, dir, _tasks: tasks }
    }

    async fn connect(&self, name: &str, group: &str) -> Client {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.pki.client(name, group)));
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        client
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let mut client = self.connect("kube-apiserver-kubelet-client", "x").await;
        let response = client.send_request(request(path)).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(response.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "localhost").body(Empty::new()).unwrap()
}

#[tokio::test]
async fn only_the_api_server_and_administrators_may_call() {
    let bench = Bench::new().await;
    for (name, group, status) in [
        ("kube-apiserver-kubelet-client", "x", 200),
        ("somebody", "system:masters", 200),
        ("system:node:node", "system:nodes", 403),
    ] {
        let response = bench.connect(name, group).await.send_request(request("/healthz")).await.unwrap();
        assert_eq!(response.status(), status, "{name} of {group}");
    }
    // To a certificate of another authority there is not even an answer.
    let stranger = Pki::new();
    let mut config = stranger.client("kube-apiserver-kubelet-client", "system:masters");
    config.dangerous().set_certificate_verifier(
        rustls::client::WebPkiServerVerifier::builder_with_provider(
            bench.pki.roots(),
            Arc::new(rustls::crypto::ring::default_provider()),
        )
        .build()
        .unwrap(),
    );
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(bench.address).await.unwrap();
    if let Ok(stream) = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await {
        let (mut client, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        assert!(client.send_request(request("/healthz")).await.is_err());
    }
}

#[tokio::test]
async fn whoever_else_calls_is_asked_for_a_token_and_may_what_the_api_server_says() {
    let bench = Bench::new().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(bench.pki.roots())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |path: &str, token: &str| {
        let mut request = request(path);
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let response = client.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    assert_eq!(ask("/metrics/resource", "").await, (401, "Unauthorized\n".into()));
    assert_eq!(ask("/metrics/resource", "nonsense").await, (401, "Unauthorized\n".into()));
    for _ in 0..2 {
        assert_eq!(ask("/metrics/resource", "of prometheus").await.0, 200);
    }
    let (status, text) = ask("/pods", "of prometheus").await;
    assert_eq!(status, 403);
    assert_eq!(text, "Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[pods proxy])\n");
    let calls = bench.world.state.lock().unwrap().calls.clone();
    let asked: Vec<_> = calls.iter().filter(|call| call.starts_with("may") || call.starts_with("review")).collect();
    let expected = [
        "review a token",
        "review a token",
        "may prometheus get metrics",
        "may prometheus get pods",
        "may prometheus get proxy",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn paths_and_options_are_checked() {
    let bench = Bench::new().await;
    for (path, status, message) in [
        ("/pods", 200, "\"name\":\"web\""),
        ("/nothing", 404, "404 page not found"),
        ("/containerLogs/default/none/app", 404, "pod \"none\" not found"),
        ("/containerLogs/default/web/none", 400, "container none is not valid for pod web"),
        ("/containerLogs/default/web/app", 200, "one\n"),
        ("/containerLogs/default/web/app?tailLines=-1", 400, "invalid value \"-1\" for tailLines"),
        ("/containerLogs/default/web/app?previous=true", 404, "no log of container"),
        ("/exec/default/web/app?command=ls&output=1", 400, "missing upgrade headers"),
    ] {
        let (got, text) = bench.get(path).await;
        assert_eq!(got, status, "{path}: {text}");
        assert!(text.contains(message), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_container_that_waits_has_no_log() {
    let bench = Bench::new().await;
    bench.view.send_modify(|view| {
        let container = view.containers.get_mut("app").unwrap();
        *container = ContainerView { waiting: Some("ErrImagePull".into()), ..ContainerView::default() };
    });
    let (status, text) = bench.get("/containerLogs/default/web/app").await;
    assert_eq!(status, 400);
    assert_eq!(text, "container \"app\" in pod \"web\" is waiting to start: image can't be pulled\n");
}

#[tokio::test]
async fn a_followed_log_grows_and_ends_with_its_container() {
    let bench = Bench::new().await;
    let mut client = bench.connect("kube-apiserver-kubelet-client", "x").await;
    let response = client.send_request(request("/containerLogs/default/web/app?follow=true")).await.unwrap();
    let mut body = response.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "one\n");
    let path = bench.dir.path().join("app/1.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, b"2026-01-01T00:00:01Z stdout F two\n").unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "two\n");
    bench.view.send_modify(|view| view.containers.get_mut("app").unwrap().running = None);
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_command_runs_over_a_web_socket() {
    let bench = Bench::new().await;
    bench.world.state.lock().unwrap().exec_code = 7;
    let mut client = bench.connect("kube-apiserver-kubelet-client", "x").await;
    let handshake = Request::get("/exec/default/web/app?command=sh&command=-c&command=exit+7&output=1&error=1")
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io")
        .body(Empty::new())
        .unwrap();
    let response = client.send_request(handshake).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    let mut socket =
        tokio_tungstenite::WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let mut frames = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            frames.push(String::from_utf8_lossy(&message.into_data()).into_owned());
        }
    }
    assert_eq!(frames[..2], ["\u{1}", "\u{1}not well"]);
    assert!(frames[2].starts_with('\u{3}') && frames[2].contains("NonZeroExitCode"), "{frames:?}");
    assert_eq!(bench.world.state.lock().unwrap().calls, ["exec in c1: sh -c exit 7"]);
}

impl Bench {
    /// An upgraded connection, and what the node chose of what was offered.
    async fn spdy(
        &self,
        path: &str,
        versions: &str,
    ) -> (machinery_spdy::Peer<TokioIo<hyper::upgrade::Upgraded>>, String) {
        let mut client = self.connect("kube-apiserver-kubelet-client", "x").await;
        let handshake = Request::post(path)
            .header("host", "localhost")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", versions)
            .body(Empty::new())
            .unwrap();
        let response = client.send_request(handshake).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
        let chosen = response.headers()["x-stream-protocol-version"].to_str().unwrap().to_owned();
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        (machinery_spdy::Peer::new(TokioIo::new(upgraded)), chosen)
    }
}

#[tokio::test]
async fn a_command_runs_over_spdy() {
    let bench = Bench::new().await;
    bench.world.state.lock().unwrap().exec_code = 7;
    let path = "/exec/default/web/app?command=sh&output=1&input=1";
    for (versions, told) in [
        ("v5.channel.k8s.io, v4.channel.k8s.io", "\"reason\":\"NonZeroExitCode\""),
        ("v2.channel.k8s.io", "command terminated with non-zero exit code: exit code 7"),
    ] {
        let (mut client, chosen) = bench.spdy(path, versions).await;
        assert!(versions.ends_with(&chosen));
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            client.open(stream, &[("streamType", kind)]).await;
        }
        assert_eq!(client.read(5).await, Ok("not well".into()));
        let said = client.read(1).await.unwrap();
        assert!(said.contains(told), "{said}");
    }
    assert_eq!(bench.world.state.lock().unwrap().calls, ["exec in c1: sh", "exec in c1: sh"]);
}

#[tokio::test]
async fn a_port_is_forwarded_over_spdy_and_only_of_a_pod_that_is_there() {
    let bench = Bench::new().await;
    let (mut client, chosen) = bench.spdy("/portForward/default/web", "portforward.k8s.io").await;
    assert_eq!(chosen, "portforward.k8s.io");
    client.open(1, &[("streamType", "error"), ("port", "80"), ("requestID", "0")]).await;
    client.open(3, &[("streamType", "data"), ("port", "80"), ("requestID", "0")]).await;
    let said = client.read(1).await.unwrap();
    assert_eq!(said, "error forwarding port 80 to pod web, uid u: no sandbox of it runs");
    assert_eq!(bench.get("/portForward/default/none").await, (StatusCode::NOT_FOUND, "pod does not exist\n".into()));
    let (status, text) = bench.get("/portForward/default/web").await;
    assert_eq!((status.as_u16(), text.as_str()), (400, "unable to upgrade: missing upgrade headers in request\n"));
}

#[tokio::test(start_paused = true)]
async fn what_pods_use_is_read_when_somebody_asks() {
    let bench = Bench::new().await;
    let running = crate::seams::ContainerState::Running { started_at: bench.world.clock.now() };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    use crate::seams::label::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
    {
        let mut state = bench.world.state.lock().unwrap();
        let container =
            crate::seams::Container { id: "c1".into(), labels: labels(&[(CONTAINER_NAME, "app")]), state: running };
        let sandbox = crate::seams::Sandbox {
            id: "s1".into(),
            labels: labels(&[(POD_NAME, "web"), (POD_NAMESPACE, "default"), (POD_UID, "u")]),
            users: None,
            netns: None,
            ready: true,
            created_at: bench.world.clock.now(),
            containers: vec![container],
        };
        state.sandboxes.insert("s1".into(), sandbox);
        let usage = crate::seams::Usage { working_set: 4096, ..Default::default() };
        let containers = vec![crate::seams::ContainerUsage { id: "c1".into(), usage, disk: None }];
        state.usage = vec![crate::seams::SandboxUsage { id: "s1".into(), usage, network: Vec::new(), containers }];
    }
    let (status, text) = bench.get("/metrics/resource").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("container_memory_working_set_bytes{container=\"app\",namespace=\"default\",pod=\"web\"} 4096")
    );

    let (status, text) = bench.get("/stats/summary?only_cpu_and_memory=true").await;
    assert_eq!(status, 200, "{text}");
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["pods"][0]["containers"][0]["memory"]["workingSetBytes"], 4096);
    // One reading for the first question, two for the second: its rate.
    let read = |bench: &Bench| bench.world.state.lock().unwrap().calls.iter().filter(|call| *call == "usage").count();
    assert_eq!(read(&bench), 3);
    let (status, _) = bench.get("/stats/summary").await;
    assert_eq!((status.as_u16(), read(&bench)), (200, 4));

    let (status, text) = bench.get("/stats/summary?only_cpu_and_memory=maybe").await;
    assert_eq!((status.as_u16(), text.contains("only_cpu_and_memory")), (400, true));
    let mut client = bench.connect("kube-apiserver-kubelet-client", "x").await;
    let post = Request::post("/metrics/resource").header("host", "localhost").body(Empty::new()).unwrap();
    assert_eq!(client.send_request(post).await.unwrap().status(), 405);
}
