//! Gives Services of type LoadBalancer their addresses: of a pool, which the nodes then announce, else the nodes' own.
//! Those with a `loadBalancerClass` are somebody else's.

mod conflicts;
mod plan;
mod pool;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::api::{Patch, PatchParams};
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, EventKind, ObjectKey, Recorder, Regarding};
use serde_json::json;

use self::plan::{Balanced, NodeAddresses, Verdict};
use crate::endpoints::{Family, SERVICE_NAME};
use crate::nodes::{NodeFacts, Readiness};
use crate::reconcile::{self, Again, During, Error, is_code};
use crate::world::World;

pub use self::plan::Supply;
pub use self::pool::{BadRange, Pool};

/// Services compete for addresses and ports: all are planned together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct All;

#[derive(Clone)]
struct Balancer {
    client: Client,
    world: World,
    recorder: Recorder,
    supply: Supply,
}

pub fn start(tasks: &Tasks, client: &Client, world: &World, supply: Supply) {
    let balancer = Balancer {
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
    reconcile::wake(tasks, &world.services, move |_| wake());
    let wake = woken();
    reconcile::wake(tasks, &world.nodes, move |_| wake());
    // Only local traffic policies look at endpoints.
    let (wake, services) = (woken(), world.services.clone());
    reconcile::wake(tasks, &world.slices, move |change| {
        let (Change::Applied { new: slice, .. } | Change::Deleted { old: slice, .. }) = change;
        let key = service_of(&change.key().namespace, slice);
        let service = key.and_then(|key| services.get(&key)).and_then(|service| balanced(&service));
        let local = service.is_some_and(|service| service.wanted && service.local);
        if local {
            wake();
        }
    });
    let ready = {
        let world = world.clone();
        async move {
            world.services.synced().await;
            world.nodes.synced().await;
            world.slices.synced().await;
        }
    };
    reconcile::run(tasks, &queue, 1, ready, move |All| {
        let balancer = balancer.clone();
        async move { balancer.settle().await }
    });
}

fn service_of(namespace: &str, slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(namespace, name))
}

/// `None`: it has no addresses of ours, never had, and has none of the outside otherwise.
fn balanced(service: &Service) -> Option<Balanced> {
    let spec = service.spec.as_ref()?;
    let of_the_type = spec.type_.as_deref() == Some("LoadBalancer");
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let has: Vec<_> = ingress.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect();
    let external: Vec<_> = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    let ours = spec.load_balancer_class.is_none() && (of_the_type || !has.is_empty());
    if !ours && external.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let created = service.metadata.creation_timestamp.as_ref();
    Some(Balanced {
        wanted: ours && of_the_type && service.metadata.deletion_timestamp.is_none(),
        families: Family::of(service),
        asked: spec.load_balancer_ip.as_ref().and_then(|address| address.parse().ok()),
        ports: ports.map(|port| (port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.port)).collect(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        external,
        // What another class has given is not ours to take away.
        has: if ours { has } else { Vec::new() },
        created: created.map(|time| time.0.to_string()).unwrap_or_default(),
    })
}

/// `None` while a node is not ready, or is to take no traffic. The outer addresses count where there are any.
fn addresses(node: &NodeFacts) -> Option<NodeAddresses> {
    const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
    if node.labels.contains_key(EXCLUDED) || node.readiness() != Readiness::Ready {
        return None;
    }
    let of = |kind: &str| {
        let all = node.addresses.iter().filter(|(known, _)| known == kind);
        all.filter_map(|(_, address)| address.parse().ok()).collect::<Vec<_>>()
    };
    let (outer, inner) = (of("ExternalIP"), of("InternalIP"));
    let addresses = if outer.is_empty() { inner } else { outer };
    (!addresses.is_empty()).then(|| NodeAddresses { name: node.name.clone(), addresses })
}

impl Balancer {
    async fn settle(&self) -> Result<Again, Error> {
        let all = self.world.services.list().into_iter();
        let all: BTreeMap<ObjectKey, (Arc<Service>, Balanced)> =
            all.filter_map(|(key, service)| balanced(&service).map(|balanced| (key, (service, balanced)))).collect();
        let services = all.iter().map(|(key, (_, service))| (key.clone(), service.clone())).collect();
        for (key, message) in conflicts::conflicts(&services) {
            if let Some((object, _)) = all.get(&key) {
                self.tell(object, EventKind::Warning, "AddressInUse", &message);
            }
        }
        let nodes: Vec<NodeAddresses> =
            self.world.nodes.list().iter().filter_map(|(_, node)| addresses(node)).collect();
        let mut plan = plan::plan(&services, &self.supply, &nodes, |key| self.endpoints(key));
        for (key, (object, service)) in &all {
            let verdict = plan.remove(key);
            let wanted = match &verdict {
                Some(Verdict::Addresses(addresses)) => addresses.clone(),
                Some(Verdict::Pending { .. }) | None => Vec::new(),
            };
            if let Some(Verdict::Pending { reason, message }) = &verdict {
                self.tell(object, EventKind::Warning, reason, message);
            }
            if wanted != service.has {
                self.write(key, &wanted).await?;
                if !wanted.is_empty() {
                    self.tell(object, EventKind::Normal, "EnsuredLoadBalancer", "Ensured load balancer");
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
            Ok(written) => Ok(self
                .world
                .services
                .caught_up(written.metadata.resource_version.as_deref().unwrap_or_default())
                .await?),
            Err(error) if is_code(&error, 404) => Ok(()),
            Err(error) => Err(error).during("giving a Service its load balancer's addresses"),
        }
    }

    fn tell(&self, service: &Service, kind: EventKind, reason: &str, message: &str) {
        let ObjectKey { namespace, name } = ObjectKey::of(service);
        let regarding = Regarding {
            api_version: "v1".into(),
            kind: "Service".into(),
            namespace,
            name,
            uid: service.metadata.uid.clone().unwrap_or_default(),
            field_path: None,
        };
        self.recorder.event(&regarding, kind, reason, message);
    }
}
