//! `metrics.k8s.io/v1beta1`: what nodes and pods use, for `kubectl top` and autoscalers. Built in, so that nothing need be
//! installed; an APIService of a user's for the group (metrics-server's) is served in its place, as any other is.
//!
//! ```text
//!  GET …/pods ─▶ Pods that the selectors choose ─▶ their nodes ─▶ each one's /stats/summary, at once (ask.rs)
//!                                                                      │
//!                                                PodMetrics ◀─ plan.rs ┘   nothing is kept, nothing is asked in between
//! ```
//! There is no APIService of our own for it: whoever installs metrics-server finds its name free.

mod ask;
mod define;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base_meta::{Gvr, Reason, Status};
use machinery_registry::{ListOptions, Registry, RequestContext, Resource, ResourceDef};
use machinery_storage::{Meta, Object};
use serde_json::Value;

use crate::computed::{self, Compute, Computed};
use crate::core::node::NodeStrategy;
use crate::core::node_proxy::NodeProxy;
use crate::core::pod::PodStrategy;
use ask::Told;

pub(crate) const GROUP: &str = "metrics.k8s.io";

/// Both kinds of the group.
pub(crate) fn kinds(
    nodes: &Arc<Registry<NodeStrategy>>,
    pods: &Arc<Registry<PodStrategy>>,
    proxy: &NodeProxy,
) -> [Arc<dyn Resource>; 2] {
    let world = || World { nodes: nodes.clone(), proxy: proxy.clone() };
    [
        Arc::new(Computed(NodeMetrics { def: define::nodes(), world: world() })),
        Arc::new(Computed(PodMetrics { def: define::pods(), world: world(), pods: pods.clone() })),
    ]
}

struct World {
    nodes: Arc<Registry<NodeStrategy>>,
    proxy: NodeProxy,
}

struct NodeMetrics {
    def: ResourceDef,
    world: World,
}

struct PodMetrics {
    def: ResourceDef,
    world: World,
    pods: Arc<Registry<PodStrategy>>,
}

/// The same request of the kind that is measured.
fn measured(ctx: &RequestContext, plural: &'static str) -> RequestContext {
    RequestContext { gvr: Gvr::of("", "v1", plural), ..ctx.clone() }
}

/// Which objects; pages and versions are of what is stored, and these are not.
fn chosen(options: &ListOptions) -> ListOptions {
    ListOptions { labels: options.labels.clone(), fields: options.fields.clone(), ..ListOptions::default() }
}

fn object(of: &Meta, value: &Value) -> Result<Arc<Object>, Status> {
    computed::object(Meta { fields: Vec::new(), ..of.clone() }, value)
}

#[async_trait::async_trait]
impl Compute for NodeMetrics {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn get(&self, ctx: &RequestContext, name: &str) -> Result<Arc<Object>, Status> {
        let missing = || Status::not_found(&self.def.gvr(), name);
        let node = match self.world.nodes.get(&measured(ctx, "nodes"), name, "").await {
            Err(status) if status.reason == Reason::NotFound => return Err(missing()),
            other => other?,
        };
        self.of(&[node]).await?.pop().ok_or_else(missing)
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<Vec<Arc<Object>>, Status> {
        let nodes = self.world.nodes.list(&measured(ctx, "nodes"), &chosen(options)).await?;
        self.of(&nodes.items).await
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        plan::row(object)
    }
}

impl NodeMetrics {
    async fn of(&self, nodes: &[Arc<Object>]) -> Result<Vec<Arc<Object>>, Status> {
        let told = self.world.ask(nodes.iter().map(|node| node.meta.name.to_string()).collect()).await;
        let all = nodes.iter().filter_map(|node| {
            let value = plan::node(&node.meta, told.get(&*node.meta.name)?)?;
            Some(object(&node.meta, &value))
        });
        all.collect()
    }
}

#[async_trait::async_trait]
impl Compute for PodMetrics {
    fn def(&self) -> &ResourceDef {
        &self.def
    }

    async fn get(&self, ctx: &RequestContext, name: &str) -> Result<Arc<Object>, Status> {
        let namespace = ctx.namespace.as_deref().unwrap_or_default();
        // In metrics-server's words.
        let missing = || Status::not_found(&self.def.gvr(), &format!("{namespace}/{name}"));
        let pod = match self.pods.get(&measured(ctx, "pods"), name, "").await {
            Err(status) if status.reason == Reason::NotFound => return Err(missing()),
            other => other?,
        };
        self.of(&[pod]).await?.pop().ok_or_else(missing)
    }

    async fn list(&self, ctx: &RequestContext, options: &ListOptions) -> Result<Vec<Arc<Object>>, Status> {
        let pods = self.pods.list(&measured(ctx, "pods"), &chosen(options)).await?;
        self.of(&pods.items).await
    }

    fn row(&self, object: &Object) -> Result<Vec<Value>, Status> {
        plan::row(object)
    }
}

impl PodMetrics {
    async fn of(&self, pods: &[Arc<Object>]) -> Result<Vec<Arc<Object>>, Status> {
        let node = |pod: &Object| {
            let field = pod.meta.fields.iter().find(|(name, _)| *name == "spec.nodeName");
            field.map(|(_, node)| node.to_string()).filter(|node| !node.is_empty())
        };
        let nodes: BTreeSet<String> = pods.iter().filter_map(|pod| node(pod)).collect();
        let told: BTreeMap<String, Told> = self.world.ask(nodes).await;
        let all = pods.iter().filter_map(|pod| {
            let value = plan::pod(&pod.meta, told.get(&node(pod)?)?)?;
            Some(object(&pod.meta, &value))
        });
        all.collect()
    }
}
