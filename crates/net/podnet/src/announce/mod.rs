//! The addresses of load balancers on the nodes' own network: one node answers for each, and another one does when it is
//! gone.
//!
//! Every node elects by itself, from the Nodes, the endpoints and whom it suspects; nobody has to be told. The elected
//! one takes the address on its link, so that the kernel answers whoever asks, and says so unasked. During a partition
//! both sides may have it: each is reached by its own.

mod plan;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base_sys::neighbour;
use base_sys::route::{self, MacAddress, Request, Route, host_prefix};
use base_tasks::{Tasks, blocking};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use machinery_client::kube::runtime::watcher::Config;
use machinery_client::kube::{Api, Client};
use machinery_client::{Informer, ObjectKey, informer};
use tokio::sync::watch;

use self::plan::{Announced, Candidates};
use crate::fabric::{Fabric, NodeView};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How our addresses show in `ip address`.
const PROTOCOL: u8 = b'S';
/// A single announcement can be lost.
const REPEATS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)];
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct AnnounceConfig {
    pub node_name: String,
    /// Of one or two families.
    pub node_ips: Vec<IpAddr>,
}

struct Announcer {
    config: AnnounceConfig,
    services: Informer<Announced>,
    slices: Informer<(ObjectKey, BTreeSet<String>)>,
    nodes: Informer<NodeView>,
    suspects: watch::Receiver<BTreeSet<String>>,
    tasks: Tasks,
}

/// Starts in the calling thread's network namespace.
pub fn start(tasks: &Tasks, client: Client, config: AnnounceConfig, fabric: &Fabric) {
    let tasks = tasks.child("announce");
    let announcer = Announcer {
        services: informer(&tasks, Api::all(client.clone()), Config::default(), |service: Service| announced(&service)),
        slices: informer(&tasks, Api::all(client), Config::default(), |slice: EndpointSlice| endpoints(slice)),
        nodes: fabric.nodes.clone(),
        suspects: fabric.suspects(),
        config,
        tasks: tasks.clone(),
    };
    tasks.spawn("elect", announcer.run());
}

/// Removes every address that an earlier run took.
pub fn remove() -> Result<(), route::Error> {
    let mut route = Route::open()?;
    for (link, address) in route.addresses_by(PROTOCOL)? {
        route.apply([Request::delete_address(link, address, host_prefix(address))])?;
    }
    Ok(())
}

fn announced(service: &Service) -> Option<Announced> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.is_some() {
        return None;
    }
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.iter().flatten();
    let virtual_ones = ingress.filter(|one| one.ip_mode.as_deref() != Some("Proxy"));
    let addresses: BTreeSet<IpAddr> = virtual_ones.filter_map(|one| one.ip.as_deref()?.parse().ok()).collect();
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    (!addresses.is_empty()).then_some(Announced { addresses, local })
}

/// Nodes with a ready endpoint.
fn endpoints(slice: EndpointSlice) -> Option<(ObjectKey, BTreeSet<String>)> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let key = ObjectKey::new(slice.metadata.namespace.clone().unwrap_or_default(), service);
    let ready = slice.endpoints.into_iter().flatten();
    let ready = ready.filter(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
    let nodes: BTreeSet<String> = ready.filter_map(|endpoint| endpoint.node_name).collect();
    (!nodes.is_empty()).then_some((key, nodes))
}

impl Announcer {
    async fn run(mut self) {
        self.services.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
        let (mut services, mut slices, mut nodes) =
            (self.services.subscribe(), self.slices.subscribe(), self.nodes.subscribe());
        // What an earlier run took is let go or kept, as it is elected now.
        let mut has: Option<BTreeSet<IpAddr>> = None;
        loop {
            while services.try_recv().is_ok() || slices.try_recv().is_ok() || nodes.try_recv().is_ok() {}
            let wanted = self.wanted();
            let failed = match has.as_ref() == Some(&wanted) {
                true => false,
                false => self
                    .take(&wanted)
                    .await
                    .inspect_err(|error| {
                        let error = error as &dyn std::error::Error;
                        tracing::error!(error, "addresses of load balancers could not be taken; trying again");
                    })
                    .is_err(),
            };
            has = (!failed).then_some(wanted);
            tokio::select! {
                Some(_) = services.recv() => {}
                Some(_) = slices.recv() => {}
                Some(_) = nodes.recv() => {}
                Ok(()) = self.suspects.changed() => {}
                () = tokio::time::sleep(RETRY), if failed => {}
                else => return,
            }
        }
    }

    fn wanted(&mut self) -> BTreeSet<IpAddr> {
        let suspects = self.suspects.borrow_and_update().clone();
        let nodes = self.nodes.list();
        let own: BTreeSet<IpAddr> = nodes.iter().flat_map(|(_, node)| node.addresses.iter().copied()).collect();
        let able = nodes.iter().filter(|(key, node)| node.ready && !suspects.contains(&key.name));
        let able: BTreeSet<String> = able.map(|(key, _)| key.name.clone()).collect();
        let services = self.services.list();
        let services: Vec<(ObjectKey, Announced)> = services
            .into_iter()
            .map(|(key, service)| {
                // A node's own address needs nobody to announce it.
                let addresses = service.addresses.difference(&own).copied().collect();
                (key, Announced { addresses, local: service.local })
            })
            .collect();
        let of = |key: &ObjectKey, local: bool| {
            let slices = if local { self.slices.select(|_, slice| slice.0 == *key) } else { Vec::new() };
            let with_endpoints = slices.into_iter().flat_map(|(_, slice)| slice.1.clone()).collect();
            Candidates { nodes: &able, with_endpoints }
        };
        plan::plan(&self.config.node_name, services.iter().map(|(key, service)| (service, of(key, service.local))))
    }

    async fn take(&self, wanted: &BTreeSet<IpAddr>) -> Result<(), route::Error> {
        let (wanted, node_ips) = (wanted.clone(), self.config.node_ips.clone());
        let new = blocking(move || program(&wanted, &node_ips)).await?;
        for (link, mac, address) in new {
            tracing::info!(%address, "this node answers for a load balancer's address");
            self.tasks.spawn("say", async move {
                for wait in REPEATS {
                    tokio::time::sleep(wait).await;
                    if let Err(error) = neighbour::announce(link, mac, address) {
                        tracing::warn!(%address, %error, "the network could not be told where an address is");
                    }
                }
            });
        }
        Ok(())
    }
}

/// Brings the addresses of the nodes' own links to what is wanted; returns those that are new, with link and hardware
/// address. An address of a family that this node has none of is nobody's here.
fn program(wanted: &BTreeSet<IpAddr>, node_ips: &[IpAddr]) -> Result<Vec<(u32, MacAddress, IpAddr)>, route::Error> {
    let mut route = Route::open()?;
    let has = route.addresses_by(PROTOCOL)?;
    for (link, address) in has.iter().filter(|(_, address)| !wanted.contains(address)) {
        route.apply([Request::delete_address(*link, *address, host_prefix(*address))])?;
    }
    let (own, links) = (route.addresses()?, route.links("")?);
    let mut new = Vec::new();
    for address in wanted.iter().filter(|address| !has.iter().any(|(_, other)| other == *address)) {
        let beside = node_ips.iter().find(|node_ip| node_ip.is_ipv4() == address.is_ipv4());
        let Some((uplink, _)) = own.iter().find(|(_, other)| Some(other) == beside) else { continue };
        route.apply([Request::add_marked_address(*uplink, *address, host_prefix(*address), PROTOCOL)])?;
        let mac = links.iter().find(|link| link.index == *uplink).and_then(|link| link.mac);
        new.extend(mac.map(|mac| (*uplink, mac, *address)));
    }
    Ok(new)
}
