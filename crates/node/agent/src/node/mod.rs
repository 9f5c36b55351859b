//! The Node object of this machine: registered at start, its lease renewed, its status kept.

mod facts;
mod lease;
mod object;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};

use crate::config::AgentConfig;
use crate::seams::chain;

pub use facts::Facts;

/// Upstream's interval of a status report without news.
const REPORT: std::time::Duration = std::time::Duration::from_secs(300);
const RETRY_INITIAL: std::time::Duration = std::time::Duration::from_millis(50);
const RETRY_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Registers the node and keeps its object and lease alive.
pub fn start(tasks: &Tasks, client: kube::Client, config: &AgentConfig, facts: Facts) {
    let (lease_client, name) = (client.clone(), config.node_name.clone());
    let config = config.clone();
    let beside = tasks.clone();
    tasks.spawn("node", async move {
        let api: Api<Node> = Api::all(client);
        // The lease names the node as its owner, so that it goes with it.
        let mut wait = RETRY_INITIAL;
        let node = loop {
            match register(&api, &config, &facts).await {
                Ok(node) => break node,
                Err(error) => {
                    tracing::warn!(node = %config.node_name, error = %chain(&error), "node not registered; will retry");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
            }
        };
        let uid = node.metadata.uid.clone().unwrap_or_default();
        beside.spawn("lease", lease::renew(lease_client, name, uid));
        loop {
            tokio::time::sleep(REPORT).await;
            if let Err(error) = register(&api, &config, &facts).await {
                tracing::warn!(node = %config.node_name, error = %chain(&error), "node status not reported; will retry");
            }
        }
    });
}

/// Creates the node or brings the existing one up to date: metadata first, then status.
async fn register(api: &Api<Node>, config: &AgentConfig, facts: &Facts) -> Result<Node, kube::Error> {
    let now = jiff::Timestamp::now();
    let existing = match api.get_opt(&config.node_name).await? {
        Some(node) => node,
        None => api.create(&PostParams::default(), &object::new(config)).await?,
    };
    let params = PatchParams::default();
    if let Some(patch) = object::metadata_patch(&existing, config) {
        api.patch(&config.node_name, &params, &Patch::Merge(patch)).await?;
    }
    let status = object::status(config, facts, existing.status.as_ref(), now);
    let patch = Patch::Merge(serde_json::json!({ "status": status }));
    api.patch_status(&config.node_name, &params, &patch).await
}
