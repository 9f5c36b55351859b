//! The node: pod network, data plane, DNS, container runtime, images, agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use base_sys::route::Ipv4Cidr;
use base_tasks::Tasks;
use machinery_client::kube::Client;
use net_podnet::PodNet;
use net_proxy::{Network, Proxy, ProxyConfig};
use node_agent::{AgentConfig, LocalImages, OciRuntime, PodNetwork, Versions, seams};
use node_images::{ImageStore, Registries};
use node_oci::{Runtime, RuntimeConfig};

use crate::host::{self, Names};
use crate::owned::Owned;

pub struct Node {
    pub data_dir: PathBuf,
    pub names: Names,
    pub name: String,
    pub owned: Owned,
    pub cluster_cidr: Ipv4Cidr,
    pub service_cidr: Ipv4Cidr,
    pub cluster_domain: String,
    pub registries: PathBuf,
    pub tls: Arc<rustls::ServerConfig>,
    pub kubelet_port: u16,
}

/// The API as the node's parts see it, each with its own identity.
pub struct Clients {
    pub agent: Client,
    pub network: Client,
}

impl Node {
    /// Starts everything under `tasks`; returns once the node can take pods.
    pub async fn start(self, tasks: &Tasks, clients: Clients) -> Result<()> {
        self.owned.write(&self.data_dir)?;
        let podnet =
            PodNet::open(self.owned.podnet(&self.data_dir, &self.names)?).context("opening the pod network")?;
        let proxy =
            net_proxy::start(tasks, clients.network.clone(), self.proxy()).context("starting the data plane")?;
        let dns = net_dns::Config {
            address: self.owned.cluster_dns,
            domain: self.cluster_domain.clone(),
            ranges: [self.cluster_cidr, self.service_cidr].map(block).to_vec(),
            node_name: self.name.clone(),
            resolv_conf: host::resolv_conf(),
            keeper: net_dns::keeper_paths(&self.data_dir, &self.names.cgroup),
        };
        net_dns::start(&tasks.child("dns"), &clients.network, dns).await.context("starting the cluster DNS")?;
        let config = RuntimeConfig::new(self.data_dir.join("containers"), &*self.names.cgroup);
        let (runtime, events) = Runtime::open(config).await.context("opening the container runtime")?;
        let registries =
            Registries::load(&self.registries).with_context(|| format!("reading {}", self.registries.display()))?;
        let images = ImageStore::open(&self.data_dir.join("images"), registries).context("opening the image store")?;
        let runtime = OciRuntime::new(runtime, events, tasks);
        let agent = tasks.clone();
        let config = self.agent();
        tasks.spawn("agent", async move {
            let (runtime, events) = runtime;
            let parts = (Arc::new(runtime) as Arc<dyn seams::Runtime>, events);
            let images = Arc::new(LocalImages(images));
            let network = Arc::new(PodNetwork(podnet));
            let run =
                node_agent::run(&agent, clients.agent, config, parts, images, network, Arc::new(Withdrawn(proxy)));
            if let Err(error) = run.await
                && !agent.is_cancelled()
            {
                tracing::error!(error = &error as &dyn std::error::Error, "the node agent stopped");
                // A server without its node would look healthy and run nothing.
                agent.cancel();
            }
        });
        Ok(())
    }

    fn proxy(&self) -> ProxyConfig {
        ProxyConfig {
            table: self.names.table.clone(),
            node_name: self.name.clone(),
            pod_interface_prefix: self.names.interface_prefix.clone(),
            v4: Some(Network {
                cluster_cidr: self.cluster_cidr,
                service_cidr: self.service_cidr,
                node_ip: self.owned.node_ip,
            }),
            v6: None,
        }
    }

    fn agent(&self) -> AgentConfig {
        let build = env!("CARGO_PKG_VERSION");
        AgentConfig {
            node_name: self.name.clone(),
            node_ip: IpAddr::V4(self.owned.node_ip),
            data_dir: self.data_dir.join("agent"),
            cluster_dns: IpAddr::V4(self.owned.cluster_dns),
            cluster_domain: self.cluster_domain.clone(),
            resolv_conf: host::resolv_conf(),
            tls: Arc::clone(&self.tls),
            kubelet_port: self.kubelet_port,
            max_pods: 110,
            versions: Versions {
                kubelet: format!("v1.36.2+sampan-{build}"),
                container_runtime: format!("sampan://{build}"),
            },
        }
    }
}

/// The data plane's answer to the agent: an address is out of use.
struct Withdrawn(Proxy);

#[async_trait::async_trait]
impl seams::Withdrawals for Withdrawn {
    async fn withdrawn(&self, pod_ip: IpAddr) {
        self.0.withdrawn(pod_ip).await;
    }
}

fn block(cidr: Ipv4Cidr) -> ipnet::IpNet {
    let network = ipnet::Ipv4Net::new(cidr.network(), cidr.prefix()).expect("a block's prefix fits its family");
    ipnet::IpNet::V4(network)
}

/// The node's own addresses that its serving certificate names.
pub fn addresses(node_ip: Ipv4Addr) -> [IpAddr; 2] {
    [IpAddr::V4(node_ip), IpAddr::V4(Ipv4Addr::LOCALHOST)]
}
