//! The node agent: registers the node, runs the pods that are bound to it, reports their status, and serves the
//! node's own HTTPS API (logs, exec, attach, port-forward).
//!
//! Pod logic is pure ([`plan`], [`status`], [`env`], [`container`], [`files`]); a worker per pod executes it through
//! the traits in [`seams`], which adapters join to the embedded runtime, the image store and the pod network, or to a
//! foreign runtime. See
//! README.md for a pod's life. Only the binary depends on this crate.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adapter;
mod clock;
mod cluster;
mod collect;
mod config;
mod container;
mod credentials;
mod cri_server;
mod csi;
mod env;
mod error;
mod eviction;
#[cfg(test)]
mod fakes;
mod files;
mod followed;
mod forward;
mod handler;
mod hook;
mod inotify;
mod logs;
mod node;
mod plan;
mod planes;
mod pods;
mod probe;
mod resize;
mod restart;
pub mod seams;
mod server;
mod shutdown;
mod state;
mod static_pods;
mod stats;
mod status;
mod streams;
mod upgrade;
mod users;
mod volumes;

use std::sync::Arc;

use base_tasks::Tasks;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use machinery_client::informer;
use tokio::sync::mpsc;

pub use adapter::{LocalImages, OciRuntime, PodNetwork, cri};
pub use collect::ImagePolicy;
pub use config::{AgentConfig, RuntimeFeatures, SysctlPattern, UnsafeSysctls, Versions};
pub use credentials::{Providers, ProvidersError};
pub use cri_server::CriConfig;
pub use csi::remove_all as remove_driver_volumes;
pub use error::Error;
pub use eviction::{EvictionError, EvictionPolicy, Graces, Limits, Reclaims};
pub use node::join as register;
pub use node::{Reserved, ReservedError};
pub use shutdown::{DrainError, Progress, ShutdownError, ShutdownPolicy, drain};
pub use users::{BadRanges, UserRanges};

use crate::clock::Clock;
use crate::cluster::ApiServer;
use crate::container::resources::Bounds;
use crate::files::HostResolver;
use crate::pods::capacity::{Capacity, units};
use crate::pods::{Machine, Pods, Routes, Supervisor};
use crate::seams::{Embedded, Images, Network, Policies, Runtime, RuntimeEvent, Withdrawals};

/// A runtime of our own, and where others are served by it.
pub type Served = Option<(Arc<dyn Embedded>, CriConfig)>;

/// Runs the node until its tasks are cancelled. Cancelling stops the agent, never the pods.
pub async fn run(
    tasks: &Tasks,
    client: kube::Client,
    config: AgentConfig,
    (runtime, events, served): (Arc<dyn Runtime>, mpsc::UnboundedReceiver<RuntimeEvent>, Served),
    images: Arc<dyn Images>,
    network: Arc<dyn Network>,
    (withdrawals, policies): (Arc<dyn Withdrawals>, Arc<dyn Policies>),
) -> Result<(), Error> {
    let tasks = tasks.child("agent");
    for path in [config.data_dir.join("pods"), config.logs_dir()] {
        std::fs::create_dir_all(&path).map_err(|source| Error::Directory { path, source })?;
    }
    let facts = node::Facts::read(&config.data_dir)?;
    let planes = planes::follow(&tasks, client.clone());
    let programmed = withdrawals.programmed();
    let withdrawals = Arc::new(planes::Everywhere { local: withdrawals, planes: planes.clone() });
    // A host without the file resolves nothing; its pods then inherit nothing.
    let resolver = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
    let allocatable = node::allocatable(&config, &facts);
    let bounds = Bounds {
        memory: facts.memory,
        page_sizes: facts.huge_pages.keys().copied().collect(),
        pod_pids: config.pod_max_pids.map(i64::from),
    };
    let all_pods = node::of_all_pods(&config, &facts);
    let pods_memory = all_pods.memory_limit.and_then(|bytes| u64::try_from(bytes).ok());
    let csi = Arc::new(csi::Csi::new(&config.kubelet_dir, &config.data_dir, &config.node_name));
    csi::start(&tasks, &client, &csi).map_err(|source| Error::Drivers { path: config.kubelet_dir.clone(), source })?;
    let machine = Arc::new(Machine {
        csi,
        runtime,
        images,
        network,
        withdrawals,
        policies,
        cluster: Arc::new(ApiServer::new(&tasks, client.clone(), &config.node_name)),
        clock: Clock::wall(),
        host_resolver: HostResolver::parse(&resolver),
        users_turn: tokio::sync::Mutex::default(),
        capacity: Capacity::new(units(&node::for_pods(&config, &facts))),
        allocatable,
        bounds,
        pods_memory,
        pressures: Default::default(),
        shutting_down: Default::default(),
        pods: Pods::default(),
        routes: Routes::default(),
        sessions: tasks.child("sessions"),
        read_logs: Default::default(),
        access: Default::default(),
        stats: Default::default(),
        collector: Default::default(),
        config,
    });
    server::start(&tasks, Arc::clone(&machine)).await?;
    let health = node::HealthWatch::of(&machine);
    node::start(&tasks, client.clone(), &machine.config, facts, (programmed, planes), health);
    collect::start(&tasks, Arc::clone(&machine));
    eviction::start(&tasks, Arc::clone(&machine));
    shutdown::start(&tasks, Arc::clone(&machine));
    if let Some((runtime, config)) = served {
        cri_server::start(&tasks, Arc::clone(&machine), runtime, config);
    }
    let selector = watcher::Config::default().fields(&format!("spec.nodeName={}", machine.config.node_name));
    let pods = informer(&tasks, Api::<Pod>::all(client.clone()), selector, pods::project);
    let directory = machine.config.pod_manifest_path.clone();
    let manifests = static_pods::follow(&tasks, directory.as_deref(), &machine.config.node_name);
    let manifests = manifests.map_err(|source| Error::StaticPods { path: directory.unwrap_or_default(), source })?;
    let node = machine.config.node_name.clone();
    static_pods::Mirror { client, node, pods: pods.clone(), manifests: manifests.clone() }.start(&tasks);
    Supervisor::new(&tasks, machine, all_pods).run(pods, manifests, events).await?;
    Ok(())
}
