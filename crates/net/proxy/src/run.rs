//! Watches Services and EndpointSlices and keeps the kernel's table up to date.

use std::net::Ipv4Addr;
use std::time::Duration;

use base_sys::nft::{self, Nft};
use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use machinery_client::{Change, informer};
use tokio::sync::{mpsc, watch};

use crate::affinity::StaleClients;
use crate::flows::StaleFlows;
use crate::kernel::{FAMILY, Kernel, ProxyConfig};
use crate::plan::Locality;
use crate::programmed::Programmed;
use crate::view::{ServiceView, SliceView};
use crate::world::{Delta, World};

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
}

impl Proxy {
    /// The highest EndpointSlice resourceVersion that the kernel follows; 0 before the first load.
    pub fn programmed(&self) -> watch::Receiver<u64> {
        self.programmed.revision()
    }

    /// Resolves once no Service of this node sends new connections to `ip`, save as a last resort.
    pub async fn withdrawn(&self, ip: Ipv4Addr) {
        self.programmed.withdrawn(ip).await;
    }

    /// Runs from changes instead of a client: `services` and `slices` begin with everything that exists.
    pub fn drive(
        tasks: &Tasks,
        services: mpsc::UnboundedReceiver<Change<ServiceView>>,
        slices: mpsc::UnboundedReceiver<Change<SliceView>>,
        config: ProxyConfig,
    ) -> Result<Self, Error> {
        let (driver, proxy) = Driver::new(tasks, config)?;
        tasks.spawn("drive", driver.run(services, slices));
        Ok(proxy)
    }
}

/// Starts the data plane in the calling thread's network namespace. An earlier run's table stays as it is until the
/// objects are known, then one transaction replaces it.
pub fn start(tasks: &Tasks, client: kube::Client, config: ProxyConfig) -> Result<Proxy, Error> {
    let tasks = tasks.child("proxy");
    let (driver, proxy) = Driver::new(&tasks, config)?;
    let services = informer(&tasks, kube::Api::<Service>::all(client.clone()), watcher::Config::default(), |service| {
        ServiceView::project(&service)
    });
    let slices = informer(&tasks, kube::Api::<EndpointSlice>::all(client), watcher::Config::default(), |slice| {
        SliceView::project(&slice)
    });
    tasks.spawn("drive", async move {
        services.synced().await;
        slices.synced().await;
        driver.run(services.subscribe(), slices.subscribe()).await;
    });
    Ok(proxy)
}

/// Deletes the table with everything in it; none is fine. Connections through services end with it, since the kernel
/// translates only while some table asks it to.
pub fn remove(table: &str) -> Result<(), Error> {
    let removed = Nft::open().and_then(|mut nft| nft.delete_table(FAMILY, table));
    removed.map_err(|source| Error::Remove { table: table.into(), source })
}

struct Driver {
    tasks: Tasks,
    table: String,
    node_ip: Ipv4Addr,
    /// Absent only while a transaction runs on a blocking thread.
    kernel: Option<Kernel>,
    world: World,
    programmed: Programmed,
}

impl Driver {
    fn new(tasks: &Tasks, config: ProxyConfig) -> Result<(Self, Proxy), Error> {
        let programmed = Programmed::new();
        let driver = Self {
            tasks: tasks.clone(),
            table: config.table.clone(),
            node_ip: config.node_ip,
            world: World::new(Locality { node_name: config.node_name.clone() }),
            kernel: Some(Kernel::open(config).map_err(Error::Open)?),
            programmed: programmed.clone(),
        };
        Ok((driver, Proxy { programmed }))
    }

    async fn run(
        mut self,
        mut services: mpsc::UnboundedReceiver<Change<ServiceView>>,
        mut slices: mpsc::UnboundedReceiver<Change<SliceView>>,
    ) {
        let mut loaded = false;
        let mut wait = RETRY_FIRST;
        loop {
            // One transaction for all that has come meanwhile.
            while let Ok(change) = services.try_recv() {
                self.world.service_changed(change);
            }
            while let Ok(change) = slices.try_recv() {
                self.world.slice_changed(change);
            }
            let delta = self.world.replan();
            let result = if loaded { self.apply(delta).await } else { self.load(delta).await };
            loaded = result.is_ok();
            match result {
                Ok(()) => wait = RETRY_FIRST,
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
                else => return,
            }
        }
    }

    async fn load(&mut self, delta: Delta) -> Result<(), nft::Error> {
        let stale = StaleFlows::of(&delta.frontends, self.node_ip);
        let (frontends, hairpins) = self.world.everything();
        let load = move |kernel: &mut Kernel| kernel.load(&frontends, &hairpins).map(|()| StaleClients::default());
        self.commit(stale, load).await?;
        self.programmed.replace(self.world.in_service(), self.world.revision());
        Ok(())
    }

    async fn apply(&mut self, delta: Delta) -> Result<(), nft::Error> {
        let Delta { frontends, add_hairpins, remove_hairpins, entered, left } = delta;
        let stale = StaleFlows::of(&frontends, self.node_ip);
        self.commit(stale, move |kernel| kernel.apply(&frontends, add_hairpins, remove_hairpins)).await?;
        self.programmed.update(&entered, &left, self.world.revision());
        Ok(())
    }

    /// Runs a transaction on a blocking thread, then ends the flows that it made stale, and both once more later.
    async fn commit(
        &mut self,
        flows: StaleFlows,
        work: impl FnOnce(&mut Kernel) -> Result<StaleClients, nft::Error> + Send + 'static,
    ) -> Result<(), nft::Error> {
        let mut kernel = self.kernel.take().expect("the driver awaits one transaction before the next");
        let first_flush = flows.clone();
        let finished = tokio::task::spawn_blocking(move || {
            let result = work(&mut kernel);
            if result.is_ok() {
                flush(&first_flush);
            }
            (kernel, result)
        });
        let (kernel, result) = match finished.await {
            Ok(finished) => finished,
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and will not poll this task again.
                Err(_) => std::future::pending().await,
            },
        };
        self.kernel = Some(kernel);
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
