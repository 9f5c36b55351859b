//! Watches Services and EndpointSlices and keeps the kernel's table up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use base_sys::nft::{self, Nft};
use base_tasks::{Tasks, blocking};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use machinery_client::{Change, informer};
use tokio::sync::{mpsc, watch};

use crate::affinity::StaleClients;
use crate::flows::StaleFlows;
use crate::frontend::{Backends, Frontend};
use crate::health::HealthServer;
use crate::host_ports::HostPorts;
use crate::kernel::FAMILY;
use crate::network::ProxyConfig;
use crate::plan::Locality;
use crate::planes::Planes;
use crate::programmed::Programmed;
use crate::slice_view::SliceView;
use crate::sockets::Namespaces;
use crate::view::ServiceView;
use crate::world::{Delta, World};

const ZONE: &str = "topology.kubernetes.io/zone";
/// After the kernel refused something: first and longest wait before everything is written anew.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// A packet in flight during the commit may have revived a flow; the design allows this one one-shot timer.
const SECOND_FLUSH: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open nftables")]
    Open(#[source] nft::Error),
    #[error("remove the table {table}")]
    Remove {
        table: String,
        #[source]
        source: nft::Error,
    },
}

/// A running data plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy {
    programmed: Programmed,
    suspects: watch::Sender<BTreeSet<String>>,
    namespaces: Namespaces,
}

impl Proxy {
    /// Whose sockets are balanced: pods are to be entered here before they run.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// The highest EndpointSlice resourceVersion that the kernel follows; 0 before the first load.
    pub fn programmed(&self) -> watch::Receiver<u64> {
        self.programmed.revision()
    }

    /// Endpoints of these nodes are used only where a front end has no other ready one, from now until the next call.
    /// That changes no object, and nobody else is told.
    pub fn suspect(&self, nodes: BTreeSet<String>) {
        self.suspects.send_if_modified(|current| {
            let changed = *current != nodes;
            *current = nodes;
            changed
        });
    }

    /// Resolves once the kernel has the table; before, an earlier run's may be there.
    pub async fn loaded(&self) {
        self.programmed.loaded().await;
    }

    /// Resolves once no Service of this node sends new connections to `ip`, save as a last resort.
    pub async fn withdrawn(&self, ip: IpAddr) {
        self.programmed.withdrawn(ip).await;
    }

    /// Runs from changes instead of a client.
    pub fn drive(tasks: &Tasks, feeds: Feeds, config: ProxyConfig) -> Result<Self, Error> {
        let (driver, proxy) = Driver::new(tasks, config)?;
        tasks.spawn("drive", driver.run(feeds));
        Ok(proxy)
    }
}

/// What the data plane follows; each begins with everything that exists.
#[derive(Debug)]
pub struct Feeds {
    pub services: mpsc::UnboundedReceiver<Change<ServiceView>>,
    pub slices: mpsc::UnboundedReceiver<Change<SliceView>>,
    /// This node's.
    pub zones: mpsc::UnboundedReceiver<Change<Zone>>,
    /// Of this node's pods.
    pub host_ports: mpsc::UnboundedReceiver<Change<HostPorts>>,
}

/// Where a node is; `None` where nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone(pub Option<String>);

impl Zone {
    fn of(node: &Node) -> Self {
        Self(node.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned())
    }
}

/// Starts the data plane in the calling thread's network namespace. An earlier run's table stays as it is until the
/// objects are known; then what differs changes.
pub fn start(tasks: &Tasks, client: kube::Client, config: ProxyConfig) -> Result<Proxy, Error> {
    let tasks = tasks.child("proxy");
    let (driver, proxy) = Driver::new(&tasks, config)?;
    let services = informer(&tasks, kube::Api::<Service>::all(client.clone()), watcher::Config::default(), |service| {
        ServiceView::project(&service)
    });
    let ourselves = watcher::Config::default().fields(&format!("metadata.name={}", driver.node_name));
    let zones = informer(&tasks, kube::Api::<Node>::all(client.clone()), ourselves, |node| Some(Zone::of(&node)));
    let here = watcher::Config::default().fields(&format!("spec.nodeName={}", driver.node_name));
    let host_ports = informer(&tasks, kube::Api::<Pod>::all(client.clone()), here, |pod| HostPorts::project(&pod));
    let slices = informer(&tasks, kube::Api::<EndpointSlice>::all(client), watcher::Config::default(), |slice| {
        SliceView::project(&slice)
    });
    tasks.spawn("drive", async move {
        services.synced().await;
        slices.synced().await;
        zones.synced().await;
        host_ports.synced().await;
        let feeds = Feeds {
            services: services.subscribe(),
            slices: slices.subscribe(),
            zones: zones.subscribe(),
            host_ports: host_ports.subscribe(),
        };
        driver.run(feeds).await;
    });
    Ok(proxy)
}

/// Deletes the table with everything in it; none is fine. Connections through services end with it, since the kernel
/// translates only while some table asks it to.
pub fn remove(table: &str) -> Result<(), Error> {
    let removed = Nft::open().and_then(|mut nft| nft.delete_table(FAMILY, table));
    removed.map_err(|source| Error::Remove { table: table.into(), source })
}

type Frontends = BTreeMap<Frontend, Backends>;

/// What we know of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An earlier run may have left it.
    Unknown,
    Known,
    /// It refused a change.
    Damaged,
}

struct Driver {
    tasks: Tasks,
    table: String,
    node_name: String,
    /// Absent only while a transaction runs on a blocking thread.
    planes: Option<Planes>,
    world: World,
    health: HealthServer,
    programmed: Programmed,
    suspects: watch::Receiver<BTreeSet<String>>,
}

impl Driver {
    fn new(tasks: &Tasks, config: ProxyConfig) -> Result<(Self, Proxy), Error> {
        let programmed = Programmed::new();
        let suspects = watch::Sender::default();
        let (table, node_name) = (config.table.clone(), config.node_name.clone());
        let service_ranges = config.networks.iter().map(|network| network.service_cidr).collect();
        let (planes, namespaces) = Planes::open(config).map_err(Error::Open)?;
        let driver = Self {
            tasks: tasks.clone(),
            table,
            node_name: node_name.clone(),
            world: World::new(Locality { node_name, service_ranges, ..Locality::default() }),
            health: HealthServer::new(tasks),
            planes: Some(planes),
            programmed: programmed.clone(),
            suspects: suspects.subscribe(),
        };
        Ok((driver, Proxy { programmed, suspects, namespaces }))
    }

    async fn run(mut self, feeds: Feeds) {
        let Feeds { mut services, mut slices, mut zones, mut host_ports } = feeds;
        let mut state = State::Unknown;
        let mut wait = RETRY_FIRST;
        loop {
            // One transaction for all that has come meanwhile.
            while let Ok(change) = services.try_recv() {
                self.world.service_changed(change);
            }
            while let Ok(change) = slices.try_recv() {
                self.world.slice_changed(change);
            }
            while let Ok(change) = zones.try_recv() {
                self.zone_changed(change);
            }
            while let Ok(change) = host_ports.try_recv() {
                self.world.host_ports_changed(change);
            }
            let suspects = self.suspects.borrow_and_update().clone();
            self.world.locality_changed(|locality| locality.suspects = suspects);
            let delta = self.world.replan();
            let result = match state {
                State::Known => self.apply(delta).await,
                State::Unknown => self.load(delta, Planes::resume).await,
                State::Damaged => self.load(delta, Planes::load).await,
            };
            state = if result.is_ok() { State::Known } else { State::Damaged };
            match result {
                Ok(()) => {
                    wait = RETRY_FIRST;
                    self.health.set(self.world.health());
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "services could not be written to the kernel; writing all of them again"
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_LONGEST);
                    continue;
                }
            }
            tokio::select! {
                Some(change) = services.recv() => self.world.service_changed(change),
                Some(change) = slices.recv() => self.world.slice_changed(change),
                Some(change) = zones.recv() => self.zone_changed(change),
                Some(change) = host_ports.recv() => self.world.host_ports_changed(change),
                Ok(()) = self.suspects.changed() => {}
                else => return,
            }
        }
    }

    fn zone_changed(&mut self, change: Change<Zone>) {
        let zone = match change {
            Change::Applied { new, .. } => new.0.clone(),
            Change::Deleted { .. } => None,
        };
        self.world.locality_changed(|locality| locality.zone = zone);
    }

    /// Writes everything, as `work` does.
    async fn load(
        &mut self,
        delta: Delta,
        work: impl FnOnce(&mut Planes, &Frontends, &BTreeSet<IpAddr>) -> Result<StaleClients, nft::Error> + Send + 'static,
    ) -> Result<(), nft::Error> {
        let stale = StaleFlows::of(&delta.frontends);
        let (frontends, hairpins) = self.world.everything();
        self.commit(stale, move |planes| work(planes, &frontends, &hairpins)).await?;
        self.programmed.replace(self.world.in_service(), self.world.revision());
        Ok(())
    }

    async fn apply(&mut self, delta: Delta) -> Result<(), nft::Error> {
        let Delta { frontends, add_hairpins, remove_hairpins, entered, left } = delta;
        let stale = StaleFlows::of(&frontends);
        self.commit(stale, move |planes| planes.apply(&frontends, add_hairpins, remove_hairpins)).await?;
        self.programmed.update(&entered, &left, self.world.revision());
        Ok(())
    }

    /// Runs a transaction on a blocking thread, then ends the flows that it made stale, and both once more later.
    async fn commit(
        &mut self,
        flows: StaleFlows,
        work: impl FnOnce(&mut Planes) -> Result<StaleClients, nft::Error> + Send + 'static,
    ) -> Result<(), nft::Error> {
        let mut planes = self.planes.take().expect("the driver awaits one transaction before the next");
        let first_flush = flows.clone();
        let (planes, result) = blocking(move || {
            let result = work(&mut planes);
            if result.is_ok() {
                flush(&first_flush);
            }
            (planes, result)
        })
        .await;
        self.planes = Some(planes);
        let clients = result?;
        if !flows.is_empty() || !clients.is_empty() {
            let table = self.table.clone();
            self.tasks.spawn("second flush", async move {
                tokio::time::sleep(SECOND_FLUSH).await;
                let again = move || {
                    flush(&flows);
                    forget(&clients, &table);
                };
                // A panic in there was reported by the thread it was on.
                let _ = tokio::task::spawn_blocking(again).await;
            });
        }
        Ok(())
    }
}

/// A client that remembers an endpoint which is gone would wait for it until its time is up.
fn forget(clients: &StaleClients, table: &str) {
    if clients.is_empty() {
        return;
    }
    if let Err(error) = Nft::open().and_then(|mut nft| clients.delete(&mut nft, table)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "clients may stick to withdrawn endpoints");
    }
}

fn flush(stale: &StaleFlows) {
    if stale.is_empty() {
        return;
    }
    match stale.delete() {
        Ok(0) => {}
        Ok(deleted) => tracing::debug!(deleted, "ended UDP flows to withdrawn endpoints"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "UDP flows to withdrawn endpoints may linger");
        }
    }
}
