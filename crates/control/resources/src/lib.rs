//! The built-in kinds: a folder per API group, a short file per kind with its `ResourceDef` and its `Strategy`, over
//! the one generic registry.
//!
//! Adding a kind is adding a file and a line in its group's `load`. Depends on `api` and `machinery`; only the binary
//! depends on it.

mod admissionregistration;
mod age;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
pub mod bootstrap;
mod certificates;
mod columns;
mod computed;
mod coordination;
mod core;
mod define;
mod discovery;
mod flowcontrol;
mod metrics;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod seeds;
mod storage;

use std::sync::Arc;

use base_meta::Status;
use base_tasks::Tasks;
use machinery_dial::Dialer;
use machinery_registry::{Chain, Handlers, Registry, Resource, Strategy};
use machinery_storage::Storage;

#[cfg(feature = "test-util")]
pub use self::apiextensions::conversion_answer;
pub use self::apiextensions::{CustomResourceDefinitionStrategy, Definitions};
pub use self::apiregistration::{Aggregation, ApiServiceStrategy, Managed, Versions};
pub use self::core::endpoints::EndpointsStrategy;
pub use self::core::namespace::{FINALIZER as NAMESPACE_FINALIZER, NamespaceStrategy};
pub use self::core::node::NodeStrategy;
pub use self::core::pod::PodStrategy;
pub use self::core::service::ServiceStrategy;
pub use self::core::service::allocations::Allocations;
pub use self::core::service::ranges::{NodePortRange, RangeError, ServiceRange};
pub use self::core::service::repair::Repaired;
pub use self::core::service_account::ServiceAccountStrategy;
pub use discovery::endpoint_slice::EndpointSliceStrategy;
pub use policy::pod_disruption_budget::PodDisruptionBudgetStrategy;

use self::core::binding::Bindings;
use self::core::node_proxy::NodeProxy;
use self::core::pod::eviction::Evict;
use self::core::pod::streams::{Stream, Streams};
use self::core::proxy::{Behind, Proxy};
use self::core::service::address::ServiceAddresses;
use self::core::{namespace, pod};
use self::networking::ip_address::IpAddressStrategy;
use self::networking::service_cidr::ServiceCidrStrategy;

/// What the kinds stand on.
pub struct Deps {
    pub storage: Arc<dyn Storage>,
    pub admission: Chain,
    /// One, or one of each family; the first is of Services that do not say.
    pub service_ranges: Vec<ServiceRange>,
    pub node_ports: NodePortRange,
    /// The API server as a client of the nodes: its certificate, and the authority that signs theirs.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// Owns the streams to nodes, and connections to what Services name.
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
    #[error("prepare TLS to pods")]
    Tls(#[source] machinery_dial::Error),
    #[error("repair the allocations of services")]
    Repair(#[source] Status),
}

/// Every kind: typed where something in this process needs it so, the rest erased.
pub struct Resources {
    pub namespaces: Arc<Registry<NamespaceStrategy>>,
    pub nodes: Arc<Registry<NodeStrategy>>,
    pub pods: Arc<Registry<PodStrategy>>,
    pub services: Arc<Registry<ServiceStrategy>>,
    pub endpoints: Arc<Registry<EndpointsStrategy>>,
    pub endpoint_slices: Arc<Registry<EndpointSliceStrategy>>,
    pub service_accounts: Arc<Registry<ServiceAccountStrategy>>,
    pub pod_disruption_budgets: Arc<Registry<PodDisruptionBudgetStrategy>>,
    pub custom_resource_definitions: Arc<Registry<CustomResourceDefinitionStrategy>>,
    pub api_services: Arc<Registry<ApiServiceStrategy>>,
    others: Vec<Arc<dyn Resource>>,
    load: Load,
    /// To servers that Services name: webhooks, aggregated API servers.
    pub dialer: Dialer,
    pub allocations: Arc<Allocations>,
}

impl Resources {
    /// For routing, discovery and OpenAPI.
    pub fn all(&self) -> Vec<Arc<dyn Resource>> {
        let mut all: Vec<Arc<dyn Resource>> = vec![
            self.namespaces.clone(),
            self.nodes.clone(),
            self.pods.clone(),
            self.services.clone(),
            self.endpoints.clone(),
            self.endpoint_slices.clone(),
            self.service_accounts.clone(),
            self.pod_disruption_budgets.clone(),
        ];
        all.push(self.custom_resource_definitions.clone());
        all.push(self.api_services.clone());
        all.extend(self.others.iter().cloned());
        all
    }

    /// What serves the kinds that definitions make, beside all of these.
    pub fn definitions(&self) -> Definitions {
        let definitions = self.custom_resource_definitions.clone();
        Definitions::new(definitions, self.load.clone(), self.dialer.clone(), &self.all())
    }

    /// What follows APIServices; aggregated servers are shown `identity`.
    pub fn aggregation(&self, identity: Arc<dyn rustls::client::ResolvesClientCert>) -> Aggregation {
        Aggregation {
            api_services: self.api_services.clone(),
            services: self.services.clone(),
            slices: self.endpoint_slices.clone(),
            dialer: self.dialer.presenting(identity),
            metrics: Default::default(),
        }
    }

    /// What makes APIServices of the groups that definitions make.
    pub fn managed(&self) -> Managed {
        Managed { registry: self.api_services.clone() }
    }

    /// Reclaims what crashed writes left behind.
    pub async fn repair(&self) -> Result<Repaired, Status> {
        let services = self.services.list_typed(None).await?;
        self.allocations.repair(&services).await
    }
}

/// Loads every kind, joins their handlers to them, and repairs the allocations.
pub async fn resources(deps: Deps) -> Result<Resources, Error> {
    let allocations = Arc::new(Allocations::new(deps.storage.clone(), deps.service_ranges, deps.node_ports));
    let load = Load { storage: deps.storage, admission: deps.admission };
    let nodes = load.kind("nodes", NodeStrategy).await?;
    let services = load.kind("services", ServiceStrategy { allocations: allocations.clone() }).await?;
    let addresses = Arc::new(ServiceAddresses(Arc::downgrade(&services)));
    let dialer = Dialer::new(addresses, deps.tasks.child("dialed"));
    let mut resources = Resources {
        namespaces: load.kind("namespaces", NamespaceStrategy).await?,
        pods: load.kind("pods", PodStrategy).await?,
        services,
        dialer,
        endpoints: load.kind("endpoints", EndpointsStrategy).await?,
        endpoint_slices: load.kind("endpointslices", EndpointSliceStrategy).await?,
        service_accounts: load.kind("serviceaccounts", ServiceAccountStrategy).await?,
        pod_disruption_budgets: load.kind("poddisruptionbudgets", PodDisruptionBudgetStrategy).await?,
        custom_resource_definitions: load.kind("customresourcedefinitions", CustomResourceDefinitionStrategy).await?,
        api_services: load.kind("apiservices", ApiServiceStrategy).await?,
        others: others(&load).await?,
        load: load.clone(),
        nodes,
        allocations,
    };
    let addresses = load.kind("ipaddresses", IpAddressStrategy).await?;
    let cidrs = load.kind("servicecidrs", ServiceCidrStrategy).await?;
    resources.allocations.follow(cidrs.clone(), addresses.clone());
    let networking: [Arc<dyn Resource>; 2] = [addresses, cidrs];
    resources.others.extend(networking);
    let namespaces = Arc::downgrade(&resources.namespaces);
    resources.namespaces.handle("finalize", Arc::new(namespace::Finalize(namespaces)));
    let pods = Arc::downgrade(&resources.pods);
    let bind = pod::binding::Bind { pods: pods.clone(), nodes: resources.nodes.clone() };
    resources.pods.handle("binding", Arc::new(bind.clone()));
    let proxy = NodeProxy { tls: deps.kubelet_tls, tasks: deps.tasks };
    for (name, kind) in
        [("log", Stream::Log), ("exec", Stream::Exec), ("attach", Stream::Attach), ("portforward", Stream::PortForward)]
    {
        let (pods, nodes, proxy) = (pods.clone(), resources.nodes.clone(), proxy.clone());
        resources.pods.handle(name, Arc::new(Streams { kind, pods, nodes, proxy }));
    }
    let budgets = resources.pod_disruption_budgets.clone();
    resources.pods.handle("eviction", Arc::new(Evict { pods: pods.clone(), budgets }));
    resources.others.extend(metrics::kinds(&resources.nodes, &resources.pods, &proxy));
    let nodes = Arc::downgrade(&resources.nodes);
    let anyone = machinery_dial::tls::config(machinery_dial::tls::Trust::Anyone, None).map_err(Error::Tls)?;
    let anyone = Arc::new(anyone);
    let behind =
        |behind| Arc::new(Proxy { behind, nodes: nodes.clone(), client: proxy.clone(), anyone: anyone.clone() });
    let services = Arc::downgrade(&resources.services);
    resources.nodes.handle("proxy", behind(Behind::Nodes));
    resources.services.handle("proxy", behind(Behind::Services(services, resources.endpoints.clone())));
    resources.pods.handle("proxy", behind(Behind::Pods(pods.clone())));
    resources.others.push(Arc::new(Bindings::new(bind, load.admission.clone())));
    resources.repair().await.map_err(Error::Repair)?;
    Ok(resources)
}

/// Kinds that nothing in this process needs typed.
async fn others(load: &Load) -> Result<Vec<Arc<dyn Resource>>, Error> {
    let mut all = self::core::load(load).await?;
    all.extend(apps::load(load).await?);
    all.extend(autoscaling::load(load).await?);
    all.extend(batch::load(load).await?);
    all.extend(coordination::load(load).await?);
    all.extend(rbac::load(load).await?);
    all.extend(admissionregistration::load(load).await?);
    all.extend(certificates::load(load).await?);
    all.extend(flowcontrol::load(load).await?);
    all.extend(networking::load(load).await?);
    all.extend(node::load(load).await?);
    all.extend(resource::load(load).await?);
    all.extend(scheduling::load(load).await?);
    all.extend(storage::load(load).await?);
    Ok(all)
}

#[derive(Clone)]
pub(crate) struct Load {
    storage: Arc<dyn Storage>,
    admission: Chain,
}

impl Load {
    async fn kind<S: Strategy>(&self, kind: &'static str, strategy: S) -> Result<Arc<Registry<S>>, Error> {
        Registry::start(strategy, self.storage.clone(), self.admission.clone(), Handlers::new())
            .await
            .map_err(|source| Error::Load { kind, source })
    }

    pub(crate) async fn erased<S: Strategy>(
        &self,
        kind: &'static str,
        strategy: S,
    ) -> Result<Arc<dyn Resource>, Error> {
        Ok(self.kind(kind, strategy).await?)
    }
}

#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;
