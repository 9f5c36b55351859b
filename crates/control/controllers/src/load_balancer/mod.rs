//! Gives Services of type LoadBalancer their addresses: of a pool, which the nodes then announce, else the nodes' own.
//! Those with a `loadBalancerClass` are somebody else's.

mod plan;
mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, Service};
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{EventKind, Informer, ObjectKey, Recorder, Regarding, informer};
use serde_json::json;

use self::plan::{Balanced, NodeAddresses, Verdict};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

pub use self::plan::Supply;
pub use self::pool::{BadRange, Pool};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Services compete for addresses and ports: all are planned together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct All;

#[derive(Clone)]
struct Balancer {
    client: Client,
    world: World,
    services: Informer<(String, Balanced)>,
    nodes: Informer<NodeAddresses>,
    recorder: Recorder,
    supply: Supply,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World, supply: Supply) {
    let balancer = Balancer {
        services: informer(tasks, Api::all(client.clone()), Config::default(), |service: Service| balanced(service)),
        nodes: informer(tasks, Api::all(client.clone()), Config::default(), |node: Node| addresses(node)),
        recorder: Recorder::new(tasks, client.clone(), "service-controller", None),
        client: client.clone(),
        world: world.clone(),
        supply,
    };
    let queue = reconcile::queue::<All>();
    let woken = || {
        let queue = queue.clone();
        move || queue.add(All)
    };
    let wake = woken();
    reconcile::wake(tasks, &balancer.services, move |_| wake());
    let wake = woken();
    reconcile::wake(tasks, &balancer.nodes, move |_| wake());
    // Only local traffic policies look at endpoints.
    let (wake, services) = (woken(), balancer.services.clone());
    reconcile::wake(tasks, &balancer.world.slices, move |change| {
        let (machinery_client::Change::Applied { new: slice, .. }
        | machinery_client::Change::Deleted { old: slice, .. }) = change;
        let key = service_of(&change.key().namespace, slice);
        let local = key.and_then(|key| services.get(&key)).is_some_and(|service| service.1.wanted && service.1.local);
        if local {
            wake();
        }
    });
    let ready = {
        let balancer = balancer.clone();
        async move {
            balancer.services.synced().await;
            balancer.nodes.synced().await;
            balancer.world.slices.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |All| {
        let balancer = balancer.clone();
        async move { balancer.settle().await }
    });
}

fn service_of(namespace: &str, slice: &k8s_openapi::api::discovery::v1::EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(namespace, name))
}

/// With its uid. `None`: it has no addresses of ours, and never had.
fn balanced(service: Service) -> Option<(String, Balanced)> {
    let (spec, status) = (service.spec.unwrap_or_default(), service.status.unwrap_or_default());
    let of_the_type = spec.type_.as_deref() == Some("LoadBalancer");
    let has: Vec<_> = status
        .load_balancer
        .and_then(|status| status.ingress)
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip?.parse().ok())
        .collect();
    if spec.load_balancer_class.is_some() || (!of_the_type && has.is_empty()) {
        return None;
    }
    let ports = spec.ports.into_iter().flatten();
    let balanced = Balanced {
        wanted: of_the_type && service.metadata.deletion_timestamp.is_none(),
        asked: spec.load_balancer_ip.and_then(|address| address.parse().ok()),
        ports: ports.map(|port| (port.protocol.unwrap_or_else(|| "TCP".into()), port.port)).collect(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        has,
        created: service.metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
    };
    Some((service.metadata.uid.unwrap_or_default(), balanced))
}

/// `None` while a node is not ready, or is to take no traffic. The outer addresses count where there are any.
fn addresses(node: Node) -> Option<NodeAddresses> {
    const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    if node.metadata.labels.is_some_and(|labels| labels.contains_key(EXCLUDED)) {
        return None;
    }
    let status = node.status?;
    let ready = status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let of = |kind: &str| {
        let all = status.addresses.iter().flatten().filter(|address| address.type_ == kind);
        all.filter_map(|address| address.address.parse().ok()).collect::<Vec<_>>()
    };
    let (outer, inner) = (of("ExternalIP"), of("InternalIP"));
    let addresses = if outer.is_empty() { inner } else { outer };
    (ready && !addresses.is_empty()).then_some(NodeAddresses { name: node.metadata.name?, addresses })
}

impl Balancer {
    async fn settle(&self) -> Result<Again, Error> {
        let all: BTreeMap<ObjectKey, Arc<(String, Balanced)>> = self.services.list().into_iter().collect();
        let services = all.iter().map(|(key, service)| (key.clone(), service.1.clone())).collect();
        let nodes: Vec<NodeAddresses> = self.nodes.list().into_iter().map(|(_, node)| (*node).clone()).collect();
        let mut plan = plan::plan(&services, &self.supply, &nodes, |key| self.endpoints(key));
        for (key, service) in &all {
            let verdict = plan.remove(key);
            let wanted = match &verdict {
                Some(Verdict::Addresses(addresses)) => addresses.clone(),
                Some(Verdict::Pending { .. }) | None => Vec::new(),
            };
            if let Some(Verdict::Pending { reason, message }) = &verdict {
                self.tell(key, &service.0, EventKind::Warning, reason, message);
            }
            if wanted != service.1.has {
                self.write(key, &wanted).await?;
                if !wanted.is_empty() {
                    self.tell(key, &service.0, EventKind::Normal, "EnsuredLoadBalancer", "Ensured load balancer");
                }
            }
        }
        Ok(None)
    }

    /// Nodes with ready endpoints of a Service.
    fn endpoints(&self, key: &ObjectKey) -> BTreeSet<String> {
        let of = |slice: &ObjectKey, found: &_| service_of(&slice.namespace, found).as_ref() == Some(key);
        let slices = self.world.slices.select(of);
        let endpoints = slices.iter().flat_map(|(_, slice)| slice.endpoints.iter().flatten());
        let ready =
            endpoints.filter(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
        ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
    }

    async fn write(&self, key: &ObjectKey, addresses: &[std::net::IpAddr]) -> Result<(), Error> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let ingress: Vec<_> = addresses.iter().map(|address| json!({"ip": address, "ipMode": "VIP"})).collect();
        let status = if ingress.is_empty() { json!(null) } else { json!({ "ingress": ingress }) };
        let patch = json!({"status": {"loadBalancer": status}});
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => {
                Ok(self.services.caught_up(written.metadata.resource_version.as_deref().unwrap_or_default()).await?)
            }
            Err(error) if is_code(&error, 404) => Ok(()),
            Err(error) => Err(error).during("giving a Service its load balancer's addresses"),
        }
    }

    fn tell(&self, key: &ObjectKey, uid: &str, kind: EventKind, reason: &str, message: &str) {
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Service".into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.to_owned(),
            field_path: None,
        };
        self.recorder.event(&regarding, kind, reason, message);
    }
}
