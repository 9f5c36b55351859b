//! Volumes that a controller attaches to the node before the node can use them: the node says which it uses, so that they
//! stay, and waits for those that it is to use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use machinery_client::{Change, informer};
use tokio::sync::watch;

use super::error::CsiError;
use super::request::Wanted;
use crate::cluster::Cluster;
use crate::seams::chain;

/// Upstream's for an attacher; who waits then tries again.
const ATTACH: Duration = Duration::from_secs(120);
const REPORT: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Attachments {
    node: String,
    in_use: watch::Sender<BTreeSet<String>>,
    /// What the node's status says; `None`: not known.
    reported: watch::Sender<Option<BTreeSet<String>>>,
    /// What the cluster says that it has attached.
    attached: watch::Sender<BTreeSet<String>>,
}

impl Attachments {
    pub(super) fn new(node: &str, in_use: BTreeSet<String>) -> Self {
        Self {
            node: node.to_owned(),
            in_use: watch::Sender::new(in_use),
            reported: watch::Sender::default(),
            attached: watch::Sender::default(),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn start(&self, tasks: &Tasks, client: &kube::Client) {
        let api = Api::<Node>::all(client.clone());
        let report = report(api.clone(), self.node.clone(), self.in_use.subscribe(), self.reported.clone());
        tasks.spawn("volumes-in-use", report);
        let (inner, node) = (tasks.clone(), self.node.clone());
        let (mut in_use, attached) = (self.in_use.subscribe(), self.attached.clone());
        tasks.spawn("volumes-attached", async move {
            // Most nodes never have one.
            if in_use.wait_for(|all| !all.is_empty()).await.is_err() {
                return;
            }
            let own = watcher::Config::default().fields(&format!("metadata.name={node}"));
            let mut changes = informer(&inner, api, own, |node: Node| Some(attached_to(&node))).subscribe();
            while let Some(change) = changes.recv().await {
                if let Change::Applied { new, .. } = change {
                    attached.send_if_modified(|known| {
                        let changed = *known != *new;
                        known.clone_from(&new);
                        changed
                    });
                }
            }
        });
    }

    /// The volume must stay attached from here on; resolves once the cluster has been told.
    pub(super) async fn hold(&self, volume: String) -> Result<(), CsiError> {
        self.in_use.send_if_modified(|all| all.insert(volume.clone()));
        let mut reported = self.reported.subscribe();
        let told = reported.wait_for(|all| all.as_ref().is_some_and(|all| all.contains(&volume)));
        match tokio::time::timeout(REPORT, told).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(CsiError::NotReported),
        }
    }

    pub(super) fn let_go(&self, volume: &str) {
        self.in_use.send_if_modified(|all| all.remove(volume));
    }

    /// What the attacher has to say to the driver, once the volume is attached.
    pub(super) async fn attached(
        &self,
        wanted: &Wanted,
        cluster: &dyn Cluster,
    ) -> Result<BTreeMap<String, String>, CsiError> {
        let name = wanted.attachment(&self.node);
        let mut changes = self.attached.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                let attachment = cluster.volume_attachment(&name).await?;
                if let Some(status) =
                    attachment.and_then(|attachment| attachment.status).filter(|status| status.attached)
                {
                    return Ok(status.attachment_metadata.unwrap_or_default());
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let late = |_| Err(CsiError::NotAttached(wanted.id.driver.clone(), wanted.id.handle.clone()));
        tokio::time::timeout(ATTACH, found).await.unwrap_or_else(late)
    }
}

fn attached_to(node: &Node) -> BTreeSet<String> {
    let status = node.status.as_ref().and_then(|status| status.volumes_attached.as_ref());
    status.into_iter().flatten().map(|volume| volume.name.clone()).collect()
}

/// Keeps the node's status as the volumes in use are.
async fn report(
    api: Api<Node>,
    node: String,
    mut in_use: watch::Receiver<BTreeSet<String>>,
    reported: watch::Sender<Option<BTreeSet<String>>>,
) {
    loop {
        let now = in_use.borrow_and_update().clone();
        // A node without such volumes says nothing.
        let told = reported.borrow().clone().unwrap_or_default();
        if now != told {
            let patch = serde_json::json!({"status": {"volumesInUse": now}});
            match api.patch_status(&node, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => drop(reported.send_replace(Some(now))),
                Err(error) => {
                    tracing::warn!(node, error = %chain(&error), "volumes in use not reported; will retry");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        if in_use.changed().await.is_err() {
            return;
        }
    }
}
