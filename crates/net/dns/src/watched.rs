//! The cluster as watched: Services, EndpointSlices, Namespaces, the pods of this node, and this server's settings.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, Informer, ObjectKey, informer};
use tokio::sync::watch;

use crate::facts::{Endpoint, Port, Protocol, ServiceFacts, ServiceKind, SliceFacts, View};
use crate::forward::Forward;
use crate::index::{Index, PodFacts};
use crate::settings::{self, Settings};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone)]
pub struct Watched {
    services: Informer<ServiceFacts>,
    namespaces: Informer<()>,
    shared: Arc<Shared>,
    ready: watch::Receiver<bool>,
}

struct Shared {
    index: RwLock<Index>,
    serial: AtomicU32,
}

impl Watched {
    pub fn start(tasks: &Tasks, client: &Client, node_name: &str) -> Self {
        let all = Config::default;
        let services = informer(tasks, Api::all(client.clone()), all(), service_facts);
        let slices = informer(tasks, Api::all(client.clone()), all(), slice_facts);
        let namespaces = informer(tasks, Api::all(client.clone()), all(), |_: Namespace| Some(()));
        let here = all().fields(&format!("spec.nodeName={node_name}"));
        let pods = informer(tasks, Api::all(client.clone()), here, pod_facts);
        let shared = Arc::new(Shared { index: RwLock::default(), serial: AtomicU32::new(now()) });
        let (done, ready) = watch::channel(false);
        let watched = Self { services: services.clone(), namespaces: namespaces.clone(), shared, ready };
        let index = Arc::clone(&watched.shared);
        tasks.spawn("index", async move {
            services.synced().await;
            slices.synced().await;
            namespaces.synced().await;
            // Subscribers are given what is there at once.
            let (mut services, mut slices, mut pods) = (services.subscribe(), slices.subscribe(), pods.subscribe());
            while let Ok(change) = services.try_recv() {
                index.write(|index| index.service_changed(change));
            }
            while let Ok(change) = slices.try_recv() {
                index.write(|index| index.slice_changed(change));
            }
            done.send_replace(true);
            loop {
                tokio::select! {
                    Some(change) = services.recv() => index.write(|index| index.service_changed(change)),
                    Some(change) = slices.recv() => index.write(|index| index.slice_changed(change)),
                    Some(change) = pods.recv() => index.write(|index| index.pod_changed(change)),
                    else => return,
                }
            }
        });
        watched
    }

    /// Resolves once everything that was there is known.
    pub async fn synced(&self) {
        // The sender goes away only with the task, and with it this server.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }
}

impl Shared {
    fn write(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
        self.serial.store(now(), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SOA serials are 32 bits, and wrap.
fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}

impl View for Watched {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        self.services.get(&ObjectKey::new(namespace, name))
    }

    fn namespace_exists(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectKey::new("", namespace)).is_some()
    }

    fn slices(&self, namespace: &str, name: &str) -> Vec<Arc<SliceFacts>> {
        let index = self.shared.read();
        index.slices.get(&ObjectKey::new(namespace, name)).into_iter().flat_map(|all| all.values().cloned()).collect()
    }

    fn service_at(&self, address: IpAddr) -> Option<ObjectKey> {
        self.shared.read().services_at.get(&address)?.first().cloned()
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<SliceFacts>> {
        self.shared.read().slices_at.get(&address).cloned().unwrap_or_default()
    }

    fn searches_from(&self, address: IpAddr) -> Option<Arc<str>> {
        // While a pod's address passes to the next, both have it: then nobody is taken for the other.
        match &self.shared.read().pods_at.get(&address)?[..] {
            [one] => Some(Arc::clone(&one.namespace)),
            _ => None,
        }
    }

    fn serial(&self) -> u32 {
        self.shared.serial.load(Ordering::Relaxed)
    }
}

/// Keeps `forward` as the ConfigMap says; what cannot be read changes nothing.
pub fn follow_settings(tasks: &Tasks, client: &Client, forward: &Arc<Forward>) {
    let named = Config::default().fields(&format!("metadata.name={}", settings::NAME));
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), settings::NAMESPACE);
    let maps = informer(tasks, api, named, |map: ConfigMap| Some(map.data.unwrap_or_default()));
    let mut changes = maps.subscribe();
    let forward = Arc::clone(forward);
    tasks.spawn("settings", async move {
        while let Some(change) = changes.recv().await {
            let settings = match &change {
                Change::Applied { new, .. } => Settings::parse(new),
                Change::Deleted { .. } => Ok(Settings::default()),
            };
            match settings {
                Ok(settings) => {
                    tracing::info!(?settings, "the cluster DNS forwards as configured");
                    forward.configure(&settings);
                }
                Err(error) => tracing::warn!(
                    configmap = %change.key(),
                    error = &error as &dyn std::error::Error,
                    "the cluster DNS goes on as before: its settings cannot be read"
                ),
            }
        }
    });
}

fn service_facts(service: Service) -> Option<ServiceFacts> {
    let spec = service.spec.unwrap_or_default();
    let ips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        ServiceKind::External(spec.external_name?.into())
    } else if ips.iter().any(|ip| ip == "None") {
        ServiceKind::Headless
    } else {
        ServiceKind::Cluster(ips.iter().filter_map(|ip| ip.parse().ok()).collect())
    };
    let ports = spec.ports.into_iter().flatten();
    let ports = ports.filter_map(|named| port(named.name, named.protocol.as_deref(), named.port)).collect();
    Some(ServiceFacts { kind, ports })
}

fn port(name: Option<String>, protocol: Option<&str>, number: i32) -> Option<Port> {
    let protocol = Protocol::parse(protocol.unwrap_or("TCP"))?;
    Some(Port { name: name.unwrap_or_default().into(), protocol, number: u16::try_from(number).ok()? })
}

fn slice_facts(slice: EndpointSlice) -> Option<SliceFacts> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?.clone();
    let namespace = slice.metadata.namespace.unwrap_or_default();
    let ports = slice.ports.into_iter().flatten();
    let ports = ports.filter_map(|named| port(named.name, named.protocol.as_deref(), named.port?)).collect();
    let endpoints = slice
        .endpoints
        .into_iter()
        .flatten()
        // Unknown counts as ready, as the API says; where the Service publishes all, the controller says so here.
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false))
        .flat_map(|endpoint| {
            let hostname = endpoint.hostname.filter(|name| !name.is_empty()).map(|name| name.to_lowercase());
            endpoint.addresses.into_iter().filter_map(move |address| {
                Some(Endpoint { address: address.parse().ok()?, hostname: hostname.clone().map(Into::into) })
            })
        });
    Some(SliceFacts { service: ObjectKey::new(namespace, service), endpoints: endpoints.collect(), ports })
}

/// `None` for a pod whose search list is another, or that has the node's address.
fn pod_facts(pod: Pod) -> Option<PodFacts> {
    let spec = pod.spec?;
    let usual = matches!(spec.dns_policy.as_deref(), None | Some("ClusterFirst" | "ClusterFirstWithHostNet"));
    let more = spec.dns_config.and_then(|config| config.searches).is_some_and(|searches| !searches.is_empty());
    let status = pod.status.unwrap_or_default();
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if !usual || more || over || spec.host_network == Some(true) {
        return None;
    }
    let addresses: Vec<IpAddr> = status.pod_ips.into_iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    let namespace = pod.metadata.namespace?;
    (!addresses.is_empty()).then(|| PodFacts { namespace: namespace.into(), addresses })
}
