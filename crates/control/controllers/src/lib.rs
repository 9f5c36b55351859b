//! The controllers: each compares what is with what is wanted, and writes the difference through the API.
//!
//! One folder per controller: `plan.rs` is pure and golden-tested, `mod.rs` watches and writes. Every controller
//! is level-triggered: a key wakes it, it reads the shared informers, and doing its work twice changes nothing.
//! May depend on `machinery/client`, `api` and `base`; never on another component.

mod attach_detach;
mod authentication_trust;
mod certificates;
mod cluster_info;
mod daemonset;
mod deployment;
mod disruption;
mod disruption_target;
mod endpoints;
mod endpoints_mirroring;
mod ephemeral_volume;
mod event;
mod fraction;
mod gc;
mod load_balancer;
mod local_path;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod nodes;
mod pod_gc;
mod programmed;
mod reconcile;
mod replicaset;
mod resource_quota;
mod service_addresses;
mod serviceaccount;
mod storage_protection;
mod taint_eviction;
mod token_cleaner;
mod volume_binder;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use base_sys::route::IpCidr;
use base_tasks::Tasks;
use machinery_client::kube::Client;

pub use certificates::Authority;
pub use load_balancer::{BadRange, Pool, Supply};
pub use world::World;

/// What the controllers are told of their cluster.
pub struct Cluster {
    /// The certificate of the authority that pods check the API server's by.
    pub ca_pem: String,
    /// Where the API is: host and port.
    pub address: String,
    /// What signs for that authority.
    pub authority: Arc<dyn Authority>,
    /// What aggregated API servers are told of whom to believe.
    pub trust: BTreeMap<String, String>,
    /// The addresses of all pods, a block per family.
    pub pods: Vec<IpCidr>,
    /// The addresses of load balancers.
    pub balancers: Supply,
}

/// Starts every controller under `tasks`. `client` carries the controllers' own identity.
pub fn start(tasks: &Tasks, client: &Client, cluster: Cluster) {
    let Cluster { ca_pem, address, authority, trust, pods, balancers } = cluster;
    let world = World::start(&tasks.child("informers"), client);
    let programmed = programmed::start(&tasks.child("programmed"), client, &world);
    replicaset::start(&tasks.child("replicaset"), client, &world, programmed.clone());
    deployment::start(&tasks.child("deployment"), client, &world);
    endpoints::start(&tasks.child("endpoints"), client, &world);
    endpoints_mirroring::start(&tasks.child("endpoints-mirroring"), client, &world);
    service_addresses::start(&tasks.child("service-addresses"), client, &world);
    serviceaccount::start(&tasks.child("serviceaccount"), client, &world, &ca_pem);
    namespace::start(&tasks.child("namespace"), client, &world);
    load_balancer::start(&tasks.child("load_balancer"), client, &world, balancers);
    node_ipam::start(&tasks.child("node_ipam"), client, &world, pods);
    let quotas = resource_quota::start(&tasks.child("resourcequota"), client, &world);
    gc::start(&tasks.child("gc"), client, quotas);
    storage_protection::start(&tasks.child("storage-protection"), client, &world);
    volume_binder::start(&tasks.child("volume_binder"), client, &world);
    attach_detach::start(&tasks.child("attach_detach"), client, &world);
    local_path::start(&tasks.child("local_path"), client, &world);
    ephemeral_volume::start(&tasks.child("ephemeral_volume"), client, &world);
    event::start(&tasks.child("event"), client);
    certificates::start(&tasks.child("certificates"), client, authority);
    authentication_trust::start(&tasks.child("authentication_trust"), client, trust);
    node_lifecycle::start(&tasks.child("node_lifecycle"), client, &world);
    taint_eviction::start(&tasks.child("taint_eviction"), client, &world);
    daemonset::start(&tasks.child("daemonset"), client, &world, programmed);
    disruption::start(&tasks.child("disruption"), client, &world);
    pod_gc::start(&tasks.child("pod_gc"), client, &world);
    token_cleaner::start(&tasks.child("token_cleaner"), client);
    cluster_info::start(&tasks.child("cluster_info"), client, &address, &ca_pem);
}
