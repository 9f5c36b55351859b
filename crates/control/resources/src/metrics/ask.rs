//! Asking the nodes, all at once. One that does not answer in time is left out, as metrics-server leaves it out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base_meta::Status;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use machinery_registry::Strategy as _;
use serde::Deserialize;

use super::World;
use crate::core::node_proxy::NodeAddress;
use crate::define::server_context;

/// A node that nobody has asked of late takes a second by itself.
const PATIENCE: Duration = Duration::from_secs(5);
const PATH: &str = "/stats/summary?only_cpu_and_memory=true";
/// A hundred times what a full node says.
const MOST: usize = 16 << 20;
/// How our nodes tell what their rates are an average of.
const WINDOW: &str = "sampan-stats-window-ms";
/// How often upstream's nodes read theirs.
const USUAL_WINDOW: u64 = 10_000;

/// What a node said of itself and its pods.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) window_ms: u64,
    pub(super) summary: Summary,
}

/// `stats.Summary` of upstream's nodes, what is needed of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) node: Used,
    pub(super) pods: Vec<PodUsed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodUsed {
    pub(super) pod_ref: PodRef,
    pub(super) containers: Vec<Used>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodRef {
    pub(super) name: String,
    pub(super) namespace: String,
}

/// Of the node or a container.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Used {
    pub(super) name: String,
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Cpu {
    pub(super) time: Option<String>,
    pub(super) usage_nano_cores: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Memory {
    pub(super) working_set_bytes: Option<u64>,
}

impl World {
    pub(super) async fn ask(&self, nodes: BTreeSet<String>) -> BTreeMap<String, Told> {
        let asked = nodes.into_iter().map(|node| async move {
            match tokio::time::timeout(PATIENCE, self.ask_one(&node)).await {
                Ok(Ok(told)) => told.map(|told| (node, told)),
                Ok(Err(status)) => {
                    tracing::warn!(node, %status, "a node does not say what it uses");
                    None
                }
                Err(_) => {
                    tracing::warn!(node, "a node does not say what it uses in time");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// `None`: there is nobody to ask.
    async fn ask_one(&self, name: &str) -> Result<Option<Told>, Status> {
        let ctx = server_context(self.nodes.strategy().def().gvr(), None);
        let node = self.nodes.get_typed(&ctx, name).await?;
        if is_silent(&node) {
            return Ok(None);
        }
        let (headers, body) = self.proxy.read(&NodeAddress::of(&node)?, PATH, MOST).await?;
        let window = headers.get(WINDOW).and_then(|value| value.to_str().ok()?.parse().ok());
        let summary = serde_json::from_slice(&body).map_err(Status::internal)?;
        Ok(Some(Told { window_ms: window.unwrap_or(USUAL_WINDOW), summary }))
    }
}

/// Taken for dead: its status is unknown.
fn is_silent(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}
