//! Waiting until the nodes of a local cluster are ready.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base_tasks::Tasks;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use machinery_client::Remote;
use machinery_client::kube::Api;
use machinery_client::kube::runtime::{WatchStreamExt as _, watcher};

use crate::pki::{Authority, Leaf};

/// How long a cluster may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether the processes still run.
const GLANCE: Duration = Duration::from_millis(200);
/// Between attempts to reach a server that is starting.
const RETRY: Duration = Duration::from_millis(20);

/// Calls `ready` with each node's name once it is; `alive` fails when it never will be.
pub async fn wait(
    tasks: &Tasks,
    server: &str,
    authority: &Authority,
    admin: &Leaf,
    nodes: &[&str],
    mut ready: impl FnMut(&str) -> Result<()>,
    alive: impl Fn() -> Result<()>,
) -> Result<()> {
    let tls = authority.trust.client(admin.shown()?)?;
    let remote = Remote::new(tasks, &server.parse().context("the server's address")?, tls, None)?;
    let api: Api<Node> = Api::all(remote.client());
    let mut left: BTreeSet<&str> = nodes.iter().copied().collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !left.is_empty() {
        alive()?;
        let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()).applied_objects());
        while !left.is_empty() {
            let Ok(next) = tokio::time::timeout(GLANCE, events.next()).await else {
                alive()?;
                ensure!(tokio::time::Instant::now() < deadline, "not ready in {} s: {left:?}", PATIENCE.as_secs());
                continue;
            };
            match next {
                Some(Ok(node)) if is_ready(&node) => {
                    let name = node.metadata.name.as_deref().unwrap_or_default();
                    if left.remove(name) {
                        ready(name)?;
                    }
                }
                Some(Ok(_)) => {}
                // It does not listen yet.
                Some(Err(_)) | None => break,
            }
        }
        if !left.is_empty() {
            tokio::time::sleep(RETRY).await;
        }
    }
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
