//! The built-in kinds: one short file each, its `ResourceDef` and its `Strategy`, over the one generic registry.
//!
//! Adding a kind is adding a file and a line in [`resources`]. Depends on `api` and `machinery`; only the binary
//! depends on it.

mod age;
pub mod bootstrap;
mod columns;
mod config_map;
mod custom_resource_definition;
mod define;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod node_proxy;
mod pod;
mod replica_set;
mod secret;
mod service;
mod service_account;

use std::sync::Arc;

use base_meta::Status;
use base_tasks::Tasks;
use machinery_registry::{Admission, Handlers, Registry, Resource, Strategy};
use machinery_storage::Storage;

pub use config_map::ConfigMapStrategy;
pub use custom_resource_definition::CustomResourceDefinitionStrategy;
pub use deployment::DeploymentStrategy;
pub use endpoint_slice::EndpointSliceStrategy;
pub use endpoints::EndpointsStrategy;
pub use event::EventStrategy;
pub use lease::LeaseStrategy;
pub use namespace::{FINALIZER as NAMESPACE_FINALIZER, NamespaceStrategy};
pub use node::NodeStrategy;
pub use pod::PodStrategy;
pub use replica_set::ReplicaSetStrategy;
pub use secret::SecretStrategy;
pub use service::ServiceStrategy;
pub use service::allocations::Allocations;
pub use service::ranges::{NodePortRange, RangeError, ServiceRange};
pub use service::repair::Repaired;
pub use service_account::ServiceAccountStrategy;

use node_proxy::NodeProxy;
use pod::streams::{Stream, Streams};

/// What the kinds stand on.
pub struct Deps {
    pub storage: Arc<dyn Storage>,
    /// In the order they are asked.
    pub admission: Vec<Arc<dyn Admission>>,
    pub service_range: ServiceRange,
    pub node_ports: NodePortRange,
    /// The API server as a client of the nodes: its certificate, and the authority that signs theirs.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// Owns the streams to nodes.
    pub tasks: Tasks,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("load {kind} from the store")]
    Load {
        kind: &'static str,
        #[source]
        source: machinery_storage::Error,
    },
    #[error("repair the allocations of services")]
    Repair(#[source] Status),
}

/// Every kind, typed for those in this process that need it so, and erased in [`Self::all`].
pub struct Resources {
    pub namespaces: Arc<Registry<NamespaceStrategy>>,
    pub nodes: Arc<Registry<NodeStrategy>>,
    pub pods: Arc<Registry<PodStrategy>>,
    pub services: Arc<Registry<ServiceStrategy>>,
    pub endpoints: Arc<Registry<EndpointsStrategy>>,
    pub endpoint_slices: Arc<Registry<EndpointSliceStrategy>>,
    pub service_accounts: Arc<Registry<ServiceAccountStrategy>>,
    pub config_maps: Arc<Registry<ConfigMapStrategy>>,
    pub secrets: Arc<Registry<SecretStrategy>>,
    pub events: Arc<Registry<EventStrategy>>,
    pub deployments: Arc<Registry<DeploymentStrategy>>,
    pub replica_sets: Arc<Registry<ReplicaSetStrategy>>,
    pub leases: Arc<Registry<LeaseStrategy>>,
    pub custom_resource_definitions: Arc<Registry<CustomResourceDefinitionStrategy>>,
    pub allocations: Arc<Allocations>,
}

impl Resources {
    /// For routing, discovery and OpenAPI.
    pub fn all(&self) -> Vec<Arc<dyn Resource>> {
        vec![
            self.namespaces.clone(),
            self.nodes.clone(),
            self.pods.clone(),
            self.services.clone(),
            self.endpoints.clone(),
            self.endpoint_slices.clone(),
            self.service_accounts.clone(),
            self.config_maps.clone(),
            self.secrets.clone(),
            self.events.clone(),
            self.deployments.clone(),
            self.replica_sets.clone(),
            self.leases.clone(),
            self.custom_resource_definitions.clone(),
        ]
    }

    /// Reclaims what crashed writes left behind.
    pub async fn repair(&self) -> Result<Repaired, Status> {
        let services = self.services.list_typed(None).await?;
        self.allocations.repair(&services).await
    }
}

/// Loads every kind, joins their handlers to them, and repairs the allocations.
pub async fn resources(deps: Deps) -> Result<Resources, Error> {
    let allocations = Arc::new(Allocations::new(deps.storage.clone(), deps.service_range, deps.node_ports));
    let load = Load { storage: deps.storage, admission: deps.admission.into() };
    let nodes = load.kind("nodes", NodeStrategy).await?;
    let resources = Resources {
        namespaces: load.kind("namespaces", NamespaceStrategy).await?,
        pods: load.kind("pods", PodStrategy).await?,
        services: load.kind("services", ServiceStrategy { allocations: allocations.clone() }).await?,
        endpoints: load.kind("endpoints", EndpointsStrategy).await?,
        endpoint_slices: load.kind("endpointslices", EndpointSliceStrategy).await?,
        service_accounts: load.kind("serviceaccounts", ServiceAccountStrategy).await?,
        config_maps: load.kind("configmaps", ConfigMapStrategy).await?,
        secrets: load.kind("secrets", SecretStrategy).await?,
        events: load.kind("events", EventStrategy).await?,
        deployments: load.kind("deployments", DeploymentStrategy).await?,
        replica_sets: load.kind("replicasets", ReplicaSetStrategy).await?,
        leases: load.kind("leases", LeaseStrategy).await?,
        custom_resource_definitions: load.kind("customresourcedefinitions", CustomResourceDefinitionStrategy).await?,
        nodes,
        allocations,
    };
    let namespaces = Arc::downgrade(&resources.namespaces);
    resources.namespaces.handle("finalize", Arc::new(namespace::Finalize(namespaces)));
    let pods = Arc::downgrade(&resources.pods);
    resources.pods.handle("binding", Arc::new(pod::binding::Bind(pods.clone())));
    let proxy = NodeProxy { tls: deps.kubelet_tls, tasks: deps.tasks };
    for (name, kind) in [("log", Stream::Log), ("exec", Stream::Exec), ("attach", Stream::Attach)] {
        let (pods, nodes, proxy) = (pods.clone(), resources.nodes.clone(), proxy.clone());
        resources.pods.handle(name, Arc::new(Streams { kind, pods, nodes, proxy }));
    }
    resources.repair().await.map_err(Error::Repair)?;
    Ok(resources)
}

struct Load {
    storage: Arc<dyn Storage>,
    admission: Arc<[Arc<dyn Admission>]>,
}

impl Load {
    async fn kind<S: Strategy>(&self, kind: &'static str, strategy: S) -> Result<Arc<Registry<S>>, Error> {
        Registry::start(strategy, self.storage.clone(), self.admission.clone(), Handlers::new())
            .await
            .map_err(|source| Error::Load { kind, source })
    }
}

#[cfg(test)]
mod tests;
