//! Gives every Node its blocks of the cluster's pod addresses, one per family (`spec.podCIDRs`). Upstream's node-ipam controller.
//!
//! What is given is written on the Nodes and nowhere else: a block is free again once its Node is gone.

mod plan;

use std::collections::BTreeSet;

use base_sys::route::IpCidr;
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Node;
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, Informer, ObjectKey, Recorder};
use serde_json::json;

use crate::nodes::NodeFacts;
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

#[derive(Clone)]
struct Ipam {
    api: Api<Node>,
    nodes: Informer<NodeFacts>,
    recorder: Recorder,
    /// In the order in which Nodes name theirs.
    cluster: Vec<IpCidr>,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World, cluster: Vec<IpCidr>) {
    let queue = reconcile::queue::<ObjectKey>();
    let nodes = world.nodes.clone();
    reconcile::wake(tasks, &nodes, {
        let (queue, nodes) = (queue.clone(), nodes.clone());
        move |change| match change {
            Change::Applied { key, .. } => queue.add(key.clone()),
            // Its block is free: for one that had none, say.
            Change::Deleted { .. } => {
                let without = nodes.select(|_, node| node.pod_cidrs.is_empty());
                without.into_iter().for_each(|(key, _)| queue.add(key));
            }
        }
    });
    let recorder = Recorder::new(tasks, client.clone(), "cidrAllocator", None);
    let ipam = Ipam { api: Api::all(client.clone()), nodes: nodes.clone(), recorder, cluster };
    // One at a time: each must see what the last one gave.
    reconcile::run(tasks, &queue, 1, async move { nodes.synced().await }, move |key| {
        let ipam = ipam.clone();
        async move { ipam.give(&key).await }
    });
}

impl Ipam {
    async fn give(&self, key: &ObjectKey) -> Result<Again, Error> {
        let Some(node) = self.nodes.get(key).filter(|node| node.pod_cidrs.is_empty()) else { return Ok(None) };
        let nodes = self.nodes.list();
        let given = nodes.iter().flat_map(|(_, node)| &node.pod_cidrs);
        let used: BTreeSet<IpCidr> = given.filter_map(|block| block.parse().ok()).collect();
        let mut blocks = Vec::new();
        for cluster in &self.cluster {
            let Some(block) = plan::free_block(*cluster, &used) else {
                let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                self.recorder.event(&node.regarding(), EventKind::Normal, "CIDRNotAvailable", &message);
                tracing::warn!(node = %key.name, range = %cluster, "no block of pod addresses is left for the node");
                return Ok(None);
            };
            blocks.push(block.to_string());
        }
        let patch = json!({"metadata": {"uid": node.uid}, "spec": {"podCIDR": blocks.first(), "podCIDRs": blocks}});
        match self.api.patch(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(given) => {
                self.nodes.caught_up(given.metadata.resource_version.as_deref().unwrap_or_default()).await?;
                Ok(None)
            }
            // Gone, or another of that name: its own event comes.
            Err(error) if is_code(&error, 404) || is_code(&error, 409) => Ok(None),
            Err(error) => Err(error).during("giving a node its blocks of pod addresses"),
        }
    }
}
