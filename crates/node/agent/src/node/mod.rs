//! The Node object of this machine: registered at start, its lease renewed, its status kept.

mod facts;
mod health;
mod lease;
mod object;
mod reserved;
mod storage;

use std::time::Duration;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::watcher;
use machinery_client::{Change, informer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::config::AgentConfig;
use crate::error::Error;
use crate::planes::Planes;
use crate::seams::chain;

pub use facts::Facts;
use health::Health;
pub use health::HealthWatch;
pub(crate) use object::{allocatable, for_pods, of_all_pods};
pub use reserved::{Reserved, ReservedError};

/// Upstream's interval of a status report without news.
const REPORT: Duration = Duration::from_secs(300);
const RETRY_INITIAL: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Registers the node and keeps its object and lease alive.
///
/// `programmed` is the revision that this node's data plane follows, said where `planes` has others.
pub fn start(
    tasks: &Tasks,
    client: kube::Client,
    config: &AgentConfig,
    facts: Facts,
    (programmed, planes): (watch::Receiver<u64>, watch::Receiver<Planes>),
    mut health: HealthWatch,
) {
    let (lease_client, name) = (client.clone(), config.node_name.clone());
    let config = config.clone();
    let beside = tasks.clone();
    tasks.spawn("node", async move {
        let api: Api<Node> = Api::all(client);
        // The lease names the node as its owner, so that it goes with it.
        let mut wait = RETRY_INITIAL;
        let node = loop {
            match register(&api, &config, &facts, &health.seen()).await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::warn!(node = %config.node_name, error = %chain(&error), "node not registered; will retry");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        };
        let (given, own) = (blocks(Some(&node)), &config.node_cidrs);
        if !own.is_empty() && !given.is_empty() && given != *own {
            tracing::error!(
                node = %config.node_name, ?given, ?own,
                "the cluster has given this node other blocks of pod addresses than it uses: other nodes do not reach \
                 its pods; `sampan uninstall` and join again"
            );
        }
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let heartbeat = lease::Heartbeat { client: lease_client, node: name, uid, programmed, planes };
        beside.spawn("lease", heartbeat.run());
        let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
        let known = health.clone();
        let own = informer(&beside, api.clone(), own, move |node: Node| Some(Own::of(&node, &known.now())));
        let mut changes = own.subscribe();
        let (node, directory) = (config.node_name.clone(), config.storage_dir());
        let storage = storage::Storage { api: api.clone(), node, directory };
        beside.spawn("storage", storage.run(own.subscribe()));
        loop {
            tokio::select! {
                () = contradiction(&mut changes, REPORT) => {}
                () = health.changed() => {}
            }
            if let Err(error) = report(&api, &config, &facts, &health.seen()).await {
                tracing::warn!(node = %config.node_name, error = %chain(&error), "node status not reported; will retry");
            }
            // Who contradicts all the time is answered once a second.
            tokio::time::sleep(RETRY_INITIAL * 20).await;
        }
    });
}

/// Makes this node known, and waits until the cluster has given it its blocks of pod addresses.
pub async fn join(client: &kube::Client, config: &AgentConfig) -> Result<Vec<String>, Error> {
    let api: Api<Node> = Api::all(client.clone());
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|source| Error::Directory { path: config.data_dir.clone(), source })?;
    let facts = Facts::read(&config.data_dir)?;
    let mut wait = RETRY_INITIAL;
    loop {
        let known = async {
            announce(&api, config, &facts).await.map_err(|error| chain(&error))?;
            let given = await_condition(api.clone(), &config.node_name, |node: Option<&Node>| !blocks(node).is_empty());
            given.await.map_err(|error| chain(&error))
        };
        match known.await {
            Ok(node) => {
                let given = blocks(node.as_ref());
                if !given.is_empty() {
                    return Ok(given);
                }
            }
            Err(error) => {
                tracing::warn!(node = %config.node_name, error, "node not registered; will retry");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Creates the node where there is none. How it is, it says once it can run pods; until then it has the taint of a new one.
async fn announce(api: &Api<Node>, config: &AgentConfig, facts: &Facts) -> Result<(), kube::Error> {
    if api.get_opt(&config.node_name).await?.is_none() {
        let mut node = object::new(config, facts, &Health::default(), jiff::Timestamp::now());
        if let Some(status) = &mut node.status {
            status.conditions = None;
        }
        api.create(&PostParams::default(), &node).await?;
    }
    Ok(())
}

fn blocks(node: Option<&Node>) -> Vec<String> {
    let spec = node.and_then(|node| node.spec.as_ref());
    let all = spec.and_then(|spec| spec.pod_cidrs.clone()).filter(|blocks| !blocks.is_empty());
    all.unwrap_or_else(|| spec.and_then(|spec| spec.pod_cidr.clone()).into_iter().collect())
}

/// What the agent reads of its own node.
struct Own {
    agrees: bool,
    removals: Vec<String>,
}

impl Own {
    fn of(node: &Node, health: &Health) -> Self {
        Self { agrees: object::agrees(node, health), removals: object::removals(node) }
    }
}

/// Until somebody says of the node what is not so (that it is gone, after it was cut off), or that long.
async fn contradiction(changes: &mut UnboundedReceiver<Change<Own>>, at_most: Duration) {
    let said = async {
        loop {
            match changes.recv().await {
                Some(Change::Applied { new, .. }) if !new.agrees => return,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    };
    // Either way it is time.
    let _ = tokio::time::timeout(at_most, said).await;
}

/// Creates the node, or brings the existing one up to date.
async fn register(api: &Api<Node>, config: &AgentConfig, facts: &Facts, health: &Health) -> Result<Node, kube::Error> {
    match report(api, config, facts, health).await? {
        Some(node) => Ok(node),
        None => api.create(&PostParams::default(), &object::new(config, facts, health, jiff::Timestamp::now())).await,
    }
}

/// Metadata first, then status; `None` where there is no such node. One that was deleted stays so until the next start,
/// as upstream's.
async fn report(
    api: &Api<Node>,
    config: &AgentConfig,
    facts: &Facts,
    health: &Health,
) -> Result<Option<Node>, kube::Error> {
    let Some(existing) = api.get_opt(&config.node_name).await? else { return Ok(None) };
    let params = PatchParams::default();
    if let Some(patch) = object::metadata_patch(&existing, config) {
        api.patch(&config.node_name, &params, &Patch::Merge(patch)).await?;
    }
    let status = object::status(config, facts, existing.status.as_ref(), health, jiff::Timestamp::now());
    let patch = Patch::Merge(serde_json::json!({ "status": status }));
    api.patch_status(&config.node_name, &params, &patch).await.map(Some)
}
