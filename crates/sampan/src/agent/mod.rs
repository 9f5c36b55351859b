//! `sampan agent`: a node of a cluster whose server is elsewhere.
//!
//! ```text
//!  token ─▶ discover: the server's authority, by its hash ─▶ tls/ca.crt
//!        └▶ certificate: who this node is, signed by the cluster ─▶ tls/node-client.pem
//!                                                                     │ from here on the token is not needed
//!  node.json, else ConfigMap sampan-cluster ─▶ Node ◀─────────────────┘
//!                                               └▶ certificate: what it serves with ─▶ tls/node-serving.pem
//! ```
//! A restart needs neither the token nor the server: the pods' network and containers are taken over at once.

mod certificate;
mod discover;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_tasks::Tasks;
use http::{HeaderValue, Uri};
use k8s_openapi::api::core::v1::Node as NodeObject;
use machinery_client::Remote;
use machinery_client::kube::runtime::wait::await_condition;
use machinery_client::kube::{Api, Client};

use self::certificate::{Purpose, Rotating};
use crate::cluster_facts::ClusterFacts;
use crate::cni::PlugIns;
use crate::config::Agent;
use crate::host::{self, Names};
use crate::join_token::JoinToken;
use crate::node::{self, Clients, KUBELET_PORT, Node};
use crate::owned::Owned;
use crate::run::{self, Signals};
use crate::runtime::Endpoints;
use crate::trust::Trust;
use crate::users;

/// Between attempts to reach the server: at first, and at last.
const RETRY: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

pub async fn run(options: Agent) -> Result<()> {
    let signals = Signals::listen()?;
    let data_dir = host::data_dir(&options.data.data_dir)?;
    if data_dir.join("store").exists() {
        bail!("{} is a server's data directory; an agent needs its own", data_dir.display());
    }
    let name = host::chosen_node_name(options.node.node_name.as_deref())?;
    let tasks = Tasks::root("sampan");
    let joining = join(&tasks, &data_dir, &options, &name);
    let Some(joined) = signals.or(joining).await.transpose()? else { return Ok(()) };
    let facts = match Owned::read(&data_dir)? {
        Some(owned) => owned.facts,
        None => {
            let Some(facts) = signals.or(ClusterFacts::read(&joined.client)).await else { return Ok(()) };
            facts?
        }
    };
    let node_ips = host::node_ips(options.node.node_ip, &facts.cluster_cidrs()?)?;
    let purpose = Purpose::Serving { name: name.clone(), addresses: node_ips.iter().collect() };
    let serving = Rotating::open(certificate::path(&data_dir, "serving"), &name, purpose)?;
    let clients = Clients { agent: joined.client.clone(), network: joined.client.clone() };
    let node = Node {
        names: Names::of(&data_dir),
        kubelet_dir: node::kubelet_dir(&options.node, &data_dir),
        users: users::ranges(&data_dir, node::MAX_PODS)?,
        data_dir,
        name: name.clone(),
        node_ips,
        facts,
        external_ips: options.node.node_external_ip.clone(),
        registries: options.node.private_registry.clone(),
        reserved: options.node.system_reserved.and(&options.node.kube_reserved),
        pod_max_pids: options.node.pod_max_pids,
        socket_load_balancing: options.node.socket_load_balancing,
        images: crate::node::image_policy(&options.node.images)?,
        eviction: crate::node::eviction_policy(&options.node.eviction)?,
        shutdown: crate::node::shutdown_policy(&options.node.shutdown)?,
        credential_providers: node::credential_providers(&options.node)?,
        cri_socket: options.node.cri_socket.clone(),
        pod_manifest_path: node::pod_manifest_path(&options.node)?,
        unsafe_sysctls: options.node.allowed_unsafe_sysctls.iter().cloned().collect(),
        cni: PlugIns::of(&options.node.cni)?,
        runtime: Endpoints::of(&options.node.runtime),
        tls: Arc::new(joined.trust.server(serving.clone(), &[])?),
        kubelet_port: KUBELET_PORT,
    };
    let Some(started) = signals.or(Box::pin(node.start(&tasks, clients))).await else { return Ok(()) };
    started?;
    joined.keep(&tasks, name, serving);
    run::until_told(tasks, signals, async {}).await
}

/// What a node has once it belongs to a cluster.
struct Joined {
    trust: Trust,
    remote: Remote,
    client: Client,
    identity: Arc<Rotating>,
}

/// With what an earlier run got, else by the token.
async fn join(tasks: &Tasks, data_dir: &Path, options: &Agent, name: &str) -> Result<Joined> {
    let server: Uri = options.server.parse().with_context(|| format!("--server {}", options.server))?;
    Remote::check(&server).context("--server")?;
    let token = options.token.as_deref().map(str::parse::<JoinToken>).transpose().context("--token")?;
    std::fs::create_dir_all(data_dir.join("tls")).context("creating the folder of certificates")?;
    let trust = trust(data_dir, &server, token.as_ref()).await?;
    let identity = Rotating::open(certificate::path(data_dir, "client"), name, Purpose::Client)?;
    if !identity.holds() {
        let Some(token) = &token else { bail!("this node does not belong to a cluster yet: it needs --token") };
        let bearer = HeaderValue::try_from(format!("Bearer {}", token.bearer)).context("--token")?;
        let tls = rustls::ClientConfig::builder().with_root_certificates(trust.roots()?).with_no_client_auth();
        let joining = Remote::new(&tasks.child("join"), &server, tls, Some(bearer))?;
        identity.issue(&joining.client()).await.with_context(|| format!("joining the cluster of {server}"))?;
        joining.reconnect().await;
        tracing::info!(%server, node = name, "joined the cluster");
    }
    let remote = Remote::new(tasks, &server, trust.client(identity.clone())?, None)?;
    Ok(Joined { client: remote.client(), trust, remote, identity })
}

async fn trust(data_dir: &Path, server: &Uri, token: Option<&JoinToken>) -> Result<Trust> {
    let path = data_dir.join("tls").join("ca.crt");
    if let Some(trust) = Trust::read(&path)? {
        if token.is_some_and(|token| token.authority != trust.hash()) {
            bail!("{} belongs to another cluster than the one --token is of", data_dir.display());
        }
        return Ok(trust);
    }
    let Some(token) = token else { bail!("this node does not belong to a cluster yet: it needs --token") };
    let mut wait = RETRY;
    let trust = loop {
        match discover::discover(server, &token.authority).await {
            Ok(trust) => break trust,
            // The server may still be starting; one that is not the right one will not become it.
            Err(error) if unreachable(&error) => {
                tracing::debug!("waiting for the server: {error:#}");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LONGEST);
                if wait == RETRY_LONGEST {
                    tracing::warn!("still waiting for the server: {error:#}");
                }
            }
            Err(error) => return Err(error),
        }
    };
    crate::pki::write_private(&path, trust.pem.as_bytes())?;
    Ok(trust)
}

fn unreachable(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_none_or(|error| error.kind() != std::io::ErrorKind::InvalidData)
}

impl Joined {
    /// Keeps both certificates fresh from now on.
    fn keep(self, tasks: &Tasks, name: String, serving: Arc<Rotating>) {
        let Self { remote, client, identity, .. } = self;
        tasks.spawn("identity", {
            let client = client.clone();
            async move { identity.keep(client, || remote.reconnect()).await }
        });
        tasks.spawn("serving certificate", async move {
            // It is approved for the addresses that the Node has.
            let api: Api<NodeObject> = Api::all(client.clone());
            let addressed = |node: Option<&NodeObject>| {
                node.is_some_and(|node| node.status.as_ref().is_some_and(|status| status.addresses.is_some()))
            };
            while let Err(error) = await_condition(api.clone(), &name, addressed).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for this node to be known");
                tokio::time::sleep(RETRY_LONGEST).await;
            }
            serving.keep(client, || async {}).await;
        });
    }
}
