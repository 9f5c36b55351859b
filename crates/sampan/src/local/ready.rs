//! Waiting until the nodes of a local cluster are ready.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_tasks::Tasks;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use machinery_client::Remote;
use machinery_client::kube::Api;
use machinery_client::kube::runtime::{WatchStreamExt as _, watcher};
use rustls::sign::SingleCertAndKey;

use crate::pki::{Authority, Leaf};

/// How long a cluster may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between attempts to reach a server that is starting.
const RETRY: Duration = Duration::from_millis(20);

/// Calls `ready` with each node's name once it is.
pub async fn wait(
    tasks: &Tasks,
    server: &str,
    authority: &Authority,
    admin: &Leaf,
    nodes: &[&str],
    ready: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let tls = authority.trust.client(Arc::new(SingleCertAndKey::from(admin.certified(&[])?)))?;
    let remote = Remote::new(tasks, &server.parse().context("the server's address")?, tls, None)?;
    let mut left: BTreeSet<&str> = nodes.iter().copied().collect();
    let watched = tokio::time::timeout(PATIENCE, watch(&Api::all(remote.client()), &mut left, ready)).await;
    watched.unwrap_or_else(|_| bail!("not ready in {} s: {left:?}", PATIENCE.as_secs()))
}

async fn watch(api: &Api<Node>, left: &mut BTreeSet<&str>, mut ready: impl FnMut(&str) -> Result<()>) -> Result<()> {
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).applied_objects());
        // An error: it does not listen yet.
        while let Some(Ok(node)) = events.next().await {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            if is_ready(&node) && left.remove(name) {
                ready(name)?;
            }
            if left.is_empty() {
                return Ok(());
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
