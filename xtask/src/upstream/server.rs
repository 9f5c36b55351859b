//! The API server with every kind over an empty store, asked in process.

use std::sync::Arc;

use anyhow::{Context, ensure};
use base_tasks::Tasks;
use bytes::Bytes;
use control_resources::{Deps, NodePortRange, ServiceRange};
use http_body_util::{BodyExt, Full};
use machinery_apiserver::{ApiServer, Attributes, Authorizer, Config, Decision, InProcess, Limits, VersionInfo};
use machinery_registry::UserInfo;
use machinery_storage::embedded::Embedded;
use serde_json::Value;
use tower::ServiceExt as _;

struct Anything;

#[async_trait::async_trait]
impl Authorizer for Anything {
    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

pub(super) struct Server {
    ask: InProcess,
    _store: tempfile::TempDir,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let store = tempfile::tempdir().context("making a folder for the store")?;
        let storage = Embedded::open(store.path()).await.context("opening the store")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let resources = control_resources::resources(Deps {
            storage: Arc::new(storage),
            admission: Default::default(),
            service_ranges: vec![ServiceRange::parse("10.43.0.0/16")?],
            node_ports: NodePortRange::parse("30000-32767")?,
            kubelet_tls: Arc::new(tls),
            tasks: Tasks::root("upstream"),
        })
        .await?;
        let server = ApiServer::new(Config {
            resources: resources.all(),
            authenticators: Vec::new(),
            authorizers: vec![Arc::new(Anything)],
            version: VersionInfo::kubernetes_1_36("upstream", ""),
            health_checks: Vec::new(),
            limits: Limits::default(),
            advertise_address: "127.0.0.1:6443".into(),
            documents: Vec::new(),
            metrics: Vec::new(),
        });
        let ask = server.in_process(UserInfo { name: "upstream".into(), ..UserInfo::default() });
        Ok(Self { ask, _store: store })
    }

    pub(super) async fn get(&self, path: &str, accept: &str) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.bytes(path, accept).await?).with_context(|| format!("GET {path}"))
    }

    pub(super) async fn bytes(&self, path: &str, accept: &str) -> anyhow::Result<Bytes> {
        let request = http::Request::get(path).header("accept", accept).body(Full::<Bytes>::default())?;
        let Ok(response) = self.ask.clone().oneshot(request).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        ensure!(code == 200, "GET {path}: {code}: {}", String::from_utf8_lossy(&bytes));
        Ok(bytes)
    }
}
