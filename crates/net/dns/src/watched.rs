//! What the records derive from: Services, and the endpoints of headless ones.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, Informer, ObjectKey, informer};

use crate::records::{Endpoint, Port, ServiceFacts, View};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The endpoints of one EndpointSlice.
#[derive(Debug, PartialEq)]
struct SliceFacts {
    service: ObjectKey,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

type SlicesOfService = HashMap<ObjectKey, BTreeMap<String, Arc<SliceFacts>>>;

#[derive(Clone)]
pub struct Watched {
    services: Informer<ServiceFacts>,
    slices: Informer<SliceFacts>,
    by_service: Arc<RwLock<SlicesOfService>>,
}

impl Watched {
    pub fn start(tasks: &Tasks, client: &Client) -> Self {
        let services = informer(tasks, Api::all(client.clone()), Config::default(), |service: Service| {
            Some(service_facts(service))
        });
        let slices = informer(tasks, Api::all(client.clone()), Config::default(), slice_facts);
        let by_service: Arc<RwLock<SlicesOfService>> = Arc::default();
        let (mut changes, index) = (slices.subscribe(), Arc::clone(&by_service));
        tasks.spawn("index", async move {
            while let Some(change) = changes.recv().await {
                apply(&mut index.write().unwrap_or_else(PoisonError::into_inner), change);
            }
        });
        Self { services, slices, by_service }
    }

    pub async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }
}

impl View for Watched {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        self.services.get(&ObjectKey::new(namespace, name))
    }

    fn namespace_exists(&self, namespace: &str) -> bool {
        self.services.list().iter().any(|(key, _)| key.namespace == namespace)
    }

    fn endpoints(&self, namespace: &str, name: &str) -> Vec<(Endpoint, Vec<Port>)> {
        let index = self.by_service.read().unwrap_or_else(PoisonError::into_inner);
        let slices = index.get(&ObjectKey::new(namespace, name));
        slices
            .into_iter()
            .flat_map(BTreeMap::values)
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| (endpoint.clone(), slice.ports.clone())))
            .collect()
    }
}

fn apply(index: &mut SlicesOfService, change: Change<SliceFacts>) {
    let (key, old, new) = match change {
        Change::Applied { key, old, new } => (key, old, Some(new)),
        Change::Deleted { key, old } => (key, Some(old), None),
    };
    if let Some(old) = old
        && let Some(slices) = index.get_mut(&old.service)
    {
        slices.remove(&key.name);
        if slices.is_empty() {
            index.remove(&old.service);
        }
    }
    if let Some(new) = new {
        index.entry(new.service.clone()).or_default().insert(key.name, new);
    }
}

fn service_facts(service: Service) -> ServiceFacts {
    let spec = service.spec.unwrap_or_default();
    let cluster_ips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    ServiceFacts {
        headless: cluster_ips.iter().any(|ip| ip == "None"),
        addresses: cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        external_name: spec.external_name.filter(|_| spec.type_.as_deref() == Some("ExternalName")),
        ports: spec
            .ports
            .into_iter()
            .flatten()
            .filter_map(|port| {
                let number = u16::try_from(port.port).ok()?;
                Some(Port { name: port.name?, protocol: lower(port.protocol), number })
            })
            .collect(),
    }
}

fn slice_facts(slice: EndpointSlice) -> Option<SliceFacts> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    let namespace = slice.metadata.namespace.unwrap_or_default();
    let ports = slice.ports.into_iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        Some(Port { name: port.name.unwrap_or_default(), protocol: lower(port.protocol), number })
    });
    let endpoints = slice
        .endpoints
        .into_iter()
        .flatten()
        // Unknown counts as ready, as the API says.
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false))
        .flat_map(|endpoint| {
            let hostname = endpoint.hostname;
            endpoint.addresses.into_iter().filter_map(move |address| {
                let address: IpAddr = address.parse().ok()?;
                Some(Endpoint { address, hostname: hostname.clone().map(|name| name.to_lowercase()) })
            })
        });
    Some(SliceFacts {
        service: ObjectKey::new(namespace, service),
        endpoints: endpoints.collect(),
        ports: ports.collect(),
    })
}

fn lower(protocol: Option<String>) -> String {
    protocol.map_or_else(|| "tcp".to_owned(), |protocol| protocol.to_lowercase())
}
