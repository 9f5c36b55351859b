//! The node: pod network, data plane, DNS, container runtime, images, agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base_sys::ip::HostIps;
use base_tasks::Tasks;
use machinery_client::kube::Client;
use net_podnet::announce::AnnounceConfig;
use net_podnet::fabric::{self, FabricConfig};
use net_podnet::{PodNet, PodNetConfig};
use net_proxy::{Links, Proxy, ProxyConfig, SocketConfig, Tunnel};
use node_agent::{
    AgentConfig, CriConfig, EvictionPolicy, ImagePolicy, LocalImages, OciRuntime, PodNetwork, Providers, Reserved,
    RuntimeFeatures, ShutdownPolicy, UnsafeSysctls, UserRanges, Versions, seams,
};
use node_images::{ImageStore, Registries};
use node_oci::{Runtime, RuntimeConfig};
use tokio::sync::mpsc;

use crate::balanced::{self, Balanced, SocketLoadBalancing};
use crate::cluster_facts::ClusterFacts;
use crate::cni::{CniNetwork, PlugIns};
use crate::config::{EvictionOptions, ImageOptions, NodeOptions, ShutdownOptions};
use crate::host::{self, Names};
use crate::owned::Owned;
use crate::runtime::{self, Endpoints, Foreign};

/// The node's own API, as upstream's kubelet.
pub const KUBELET_PORT: u16 = 10250;

/// Pods of a node.
pub const MAX_PODS: u32 = 110;

pub struct Node {
    pub data_dir: PathBuf,
    pub kubelet_dir: PathBuf,
    pub names: Names,
    pub name: String,
    pub node_ips: HostIps,
    pub facts: ClusterFacts,
    /// The node's addresses for the outside.
    pub external_ips: Vec<IpAddr>,
    pub registries: PathBuf,
    /// What of the machine is not for pods.
    pub reserved: Reserved,
    pub pod_max_pids: Option<u32>,
    pub socket_load_balancing: SocketLoadBalancing,
    pub images: ImagePolicy,
    pub eviction: EvictionPolicy,
    pub shutdown: ShutdownPolicy,
    pub credential_providers: Arc<Providers>,
    /// Where static pods' files are.
    pub pod_manifest_path: Option<PathBuf>,
    pub unsafe_sysctls: UnsafeSysctls,
    /// Where the runtime is served to others; in the data directory where nothing is said.
    pub cri_socket: Option<PathBuf>,
    /// For pods with their own users.
    pub users: UserRanges,
    /// Who connects the pods in place of the built-in network.
    pub cni: Option<PlugIns>,
    /// Who runs the containers in place of the embedded runtime.
    pub runtime: Option<Endpoints>,
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
        let foreign = match &self.runtime {
            Some(endpoints) => Some(Foreign::find(endpoints, self.cni.is_some()).await?),
            None => None,
        };
        let owned = self.own(&clients.agent, foreign.as_ref()).await?;
        let podnet = owned.podnet(&self.data_dir, &self.names)?;
        let (containers, network) = self.containers(tasks, foreign.as_ref(), &podnet).await?;
        let fabric = net_podnet::fabric::start(tasks, clients.network.clone(), self.fabric(&owned)?)
            .context("starting the network between nodes")?;
        if self.socket_load_balancing == SocketLoadBalancing::Off {
            // An earlier run's.
            net_proxy::remove_sockets(&balanced::pins(&self.data_dir)).context("ending the balancing of sockets")?;
        }
        let proxy =
            net_proxy::start(tasks, clients.network.clone(), self.proxy(&owned)?).context("starting the data plane")?;
        let network: Arc<dyn seams::Network> = Arc::new(Balanced { network, namespaces: proxy.namespaces().clone() });
        if let Some(foreign) = &foreign {
            foreign.connect_by(tasks, &self.data_dir, Arc::clone(&network))?;
        }
        let announce = AnnounceConfig { node_name: self.name.clone(), node_ips: self.node_ips.iter().collect() };
        net_podnet::announce::start(tasks, clients.network.clone(), announce, &fabric);
        let (loopback, loaded) = (podnet, proxy.clone());
        tasks.spawn("loopback", async move {
            // The rules that keep strangers from loopback addresses come first.
            loaded.loaded().await;
            if let Err(error) = loopback.route_loopback(net_proxy::ROUTE_LOOPBACK) {
                tracing::warn!(error = &error as &dyn std::error::Error, "node ports do not answer on 127.0.0.1");
            }
        });
        let (mut suspects, suspected) = (fabric.suspects(), proxy.clone());
        tasks.spawn("suspects", async move {
            while suspects.changed().await.is_ok() {
                let nodes = suspects.borrow_and_update().clone();
                suspected.suspect(nodes);
            }
        });
        let policies = net_policy::Config { table: self.names.policy_table.clone(), node_name: self.name.clone() };
        let policies =
            net_policy::start(tasks, clients.network.clone(), policies).context("starting the network policies")?;
        let dns = net_dns::Config {
            address: self.facts.cluster_dns,
            domain: self.facts.cluster_domain.clone(),
            ranges: [self.facts.cluster_cidrs()?, self.facts.service_cidrs()?].concat(),
            node_name: self.name.clone(),
            resolv_conf: host::resolv_conf(),
            keeper: net_dns::keeper_paths(&self.data_dir, &self.names.cgroup),
        };
        net_dns::start(&tasks.child("dns"), &clients.network, dns).await.context("starting the cluster DNS")?;
        let agent = tasks.clone();
        let node_cidrs = owned.networks()?.iter().map(|network| network.node_cidr.to_string()).collect();
        let config = self.agent(node_cidrs, foreign.as_ref());
        tasks.spawn("agent", async move {
            let Containers { runtime, images, events, served } = containers;
            let parts = (runtime, events, served);
            let traffic =
                (Arc::new(Withdrawn(proxy)) as Arc<dyn seams::Withdrawals>, Arc::new(Allowed(policies)) as Arc<_>);
            let run = node_agent::run(&agent, clients.agent, config, parts, images, network, traffic);
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

    /// What this node has of the cluster: as an earlier run had it, else as the cluster says once it knows the node.
    async fn own(&self, client: &Client, foreign: Option<&Foreign>) -> Result<Owned> {
        let node_cidr = match Owned::read(&self.data_dir)? {
            Some(before) => before.node_cidr,
            None => {
                let blocks = node_agent::register(client, &self.agent(Vec::new(), foreign)).await;
                blocks.context("registering this node")?.join(",")
            }
        };
        // A foreign runtime's plug-ins are its own.
        let cni = self.cni.as_ref().filter(|_| foreign.is_none());
        let cni_bin_dirs = cni.map(|cni| cni.bin_dirs.clone()).unwrap_or_default();
        let owned = Owned {
            node_ip: self.node_ips.to_string(),
            node_cidr,
            cni_bin_dirs,
            runtime: foreign.map(Foreign::owned),
            kubelet_dir: self.kubelet_dir.clone(),
            facts: self.facts.clone(),
        };
        owned.write(&self.data_dir)?;
        Ok(owned)
    }

    /// Who runs the containers, and who connects the pods.
    async fn containers(
        &self,
        tasks: &Tasks,
        foreign: Option<&Foreign>,
        podnet: &PodNetConfig,
    ) -> Result<(Containers, Arc<dyn seams::Network>)> {
        if let Some(foreign) = foreign {
            let (runtime, events) = foreign.open(tasks, &self.data_dir, &self.names.cgroup);
            let network = match &self.cni {
                Some(_) => {
                    self.prepare_for_plug_ins(podnet)?;
                    runtime::network(&runtime)
                }
                None => {
                    let network = PodNet::open(podnet.clone()).context("opening the pod network")?;
                    let (network, trouble) = (Arc::new(PodNetwork(network)), runtime.trouble());
                    Arc::new(runtime::Told { network, trouble })
                }
            };
            let (runtime, images) = (Arc::new(runtime), Arc::new(foreign.images()));
            // It serves itself.
            return Ok((Containers { runtime, images, events, served: None }, network));
        }
        let network = self.network(tasks, podnet).await?;
        let config = RuntimeConfig::new(self.data_dir.join("containers"), &*self.names.cgroup);
        let (runtime, events) = Runtime::open(config).await.context("opening the container runtime")?;
        let registries =
            Registries::load(&self.registries).with_context(|| format!("reading {}", self.registries.display()))?;
        let images = ImageStore::open(&self.data_dir.join("images"), registries).context("opening the image store")?;
        let (runtime, events) = OciRuntime::new(runtime, events, tasks);
        let runtime = Arc::new(runtime);
        let cri = CriConfig {
            socket: self.cri_socket.clone().unwrap_or_else(|| self.data_dir.join("cri.sock")),
            images_dir: self.data_dir.join("images"),
        };
        let served = Some((Arc::clone(&runtime) as Arc<dyn seams::Embedded>, cri));
        Ok((Containers { runtime, images: Arc::new(LocalImages(images)), events, served }, network))
    }

    /// Who connects the pods of the embedded runtime.
    async fn network(&self, tasks: &Tasks, podnet: &PodNetConfig) -> Result<Arc<dyn seams::Network>> {
        let Some(cni) = &self.cni else {
            let podnet = PodNet::open(podnet.clone()).context("opening the pod network")?;
            return Ok(Arc::new(PodNetwork(podnet)));
        };
        self.prepare_for_plug_ins(podnet)?;
        let network = CniNetwork::start(tasks, cni, &self.data_dir, self.node_ips.primary).await?;
        Ok(Arc::new(network))
    }

    fn prepare_for_plug_ins(&self, podnet: &PodNetConfig) -> Result<()> {
        podnet.prepare_node().context("preparing the node for pods")?;
        if let Err(error) = podnet.filter_bridged() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "pods on one bridge do not reach each other through Services: this kernel lacks br_netfilter"
            );
        }
        // Of an earlier run without plug-ins.
        net_podnet::fabric::remove(&self.names.tunnel, &self.facts.cluster_cidrs()?)
            .context("removing the built-in network between nodes")
    }

    fn fabric(&self, owned: &Owned) -> Result<FabricConfig> {
        Ok(FabricConfig {
            node_name: self.name.clone(),
            networks: owned.networks()?,
            tunnel: self.cni.is_none().then(|| self.names.tunnel.clone()),
            network_id: self.facts.network_id,
        })
    }

    fn proxy(&self, owned: &Owned) -> Result<ProxyConfig> {
        let networks = owned.networks()?;
        let network = |network: &net_podnet::Network| {
            let net_podnet::Network { cluster_cidr, service_cidr, node_ip, .. } = *network;
            net_proxy::Network { cluster_cidr, service_cidr, node_ip }
        };
        let tunnel = Tunnel {
            link: self.names.tunnel.clone(),
            addresses: networks.iter().map(|network| fabric::tunnel_address(network.node_cidr)).collect(),
        };
        let pins = balanced::pins(&self.data_dir);
        Ok(ProxyConfig {
            table: self.names.table.clone(),
            node_name: self.name.clone(),
            links: match &self.cni {
                None => Links::Ours { prefix: self.names.interface_prefix.clone(), tunnel },
                Some(_) => Links::Foreign,
            },
            networks: networks.iter().map(network).collect(),
            sockets: (self.socket_load_balancing == SocketLoadBalancing::Auto)
                .then_some(SocketConfig { pins, cgroup: None }),
        })
    }

    fn agent(&self, node_cidrs: Vec<String>, foreign: Option<&Foreign>) -> AgentConfig {
        let build = env!("CARGO_PKG_VERSION");
        AgentConfig {
            node_name: self.name.clone(),
            node_ips: self.node_ips,
            node_cidrs,
            external_ips: self.external_ips.clone(),
            data_dir: self.data_dir.join("agent"),
            kubelet_dir: self.kubelet_dir.clone(),
            cluster_dns: self.facts.cluster_dns,
            cluster_domain: self.facts.cluster_domain.clone(),
            resolv_conf: host::resolv_conf(),
            tls: Arc::clone(&self.tls),
            pod_manifest_path: self.pod_manifest_path.clone(),
            kubelet_port: self.kubelet_port,
            max_pods: MAX_PODS,
            reserved: self.reserved.clone(),
            pod_max_pids: self.pod_max_pids,
            images: self.images,
            eviction: self.eviction.clone(),
            shutdown: self.shutdown.clone(),
            credential_providers: Arc::clone(&self.credential_providers),
            unsafe_sysctls: self.unsafe_sysctls.clone(),
            features: foreign.map_or_else(|| RuntimeFeatures::embedded(self.users), |foreign| foreign.facts.features),
            versions: Versions {
                kubelet: format!("v1.36.2+sampan-{build}"),
                container_runtime: foreign
                    .map_or_else(|| format!("sampan://{build}"), |foreign| foreign.facts.version.clone()),
            },
        }
    }
}

/// What the agent runs containers with.
struct Containers {
    runtime: Arc<dyn seams::Runtime>,
    images: Arc<dyn seams::Images>,
    events: mpsc::UnboundedReceiver<seams::RuntimeEvent>,
    /// The embedded runtime, and where it is served to others.
    served: Option<(Arc<dyn seams::Embedded>, CriConfig)>,
}

/// The data plane's answer to the agent: an address is out of use.
struct Withdrawn(Proxy);

#[async_trait::async_trait]
impl seams::Withdrawals for Withdrawn {
    async fn withdrawn(&self, pod_ip: IpAddr) {
        self.0.withdrawn(pod_ip).await;
    }

    fn programmed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.programmed()
    }
}

/// The data plane's other answer: what NetworkPolicies forbid a pod is not forwarded.
struct Allowed(net_policy::Policies);

#[async_trait::async_trait]
impl seams::Policies for Allowed {
    async fn programmed(&self, pod: &k8s_openapi::api::core::v1::Pod, ips: &[IpAddr]) {
        self.0.programmed(pod, ips).await;
    }
}

/// When unused images go, as the options say.
pub fn image_policy(options: &ImageOptions) -> Result<ImagePolicy> {
    let (high, low) = (options.image_gc_high_threshold, options.image_gc_low_threshold);
    ensure!(low < high, "--image-gc-low-threshold {low} must be below --image-gc-high-threshold {high}");
    let (min_age, max_age) = (options.minimum_image_ttl_duration, options.image_maximum_gc_age);
    Ok(ImagePolicy { high, low, min_age, max_age })
}

/// When pods are evicted, as the options say.
pub fn eviction_policy(options: &EvictionOptions) -> Result<EvictionPolicy> {
    let soft = (&options.eviction_soft, &options.eviction_soft_grace_period);
    let thresholds = EvictionPolicy::thresholds(&options.eviction_hard, soft, &options.eviction_minimum_reclaim);
    let seconds = u64::try_from(options.eviction_max_pod_grace_period).ok().filter(|seconds| *seconds > 0);
    Ok(EvictionPolicy {
        thresholds: thresholds.context("--eviction-soft")?,
        max_grace: seconds.map(Duration::from_secs),
        transition: options.eviction_pressure_transition_period.unsigned_abs(),
    })
}

/// What pods have when the node goes down, as the options say.
pub fn shutdown_policy(options: &ShutdownOptions) -> Result<ShutdownPolicy> {
    if let Some(policy) = &options.shutdown_grace_period_by_pod_priority {
        return Ok(policy.clone());
    }
    let (all, critical) = (options.shutdown_grace_period, options.shutdown_grace_period_critical_pods);
    ShutdownPolicy::of(all.unsigned_abs(), critical.unsigned_abs()).context("--shutdown-grace-period-critical-pods")
}

/// The programs that the options name.
pub fn credential_providers(options: &NodeOptions) -> Result<Arc<Providers>> {
    let (config, programs) = (&options.image_credential_provider_config, &options.image_credential_provider_bin_dir);
    let (Some(config), Some(programs)) = (config, programs) else { return Ok(Arc::default()) };
    Ok(Arc::new(Providers::load(config, programs).context("--image-credential-provider-config")?))
}

/// Drivers' manifests say `/var/lib/kubelet`; a second Sampan of the host must not share it with the first.
pub fn kubelet_dir(options: &NodeOptions, data_dir: &Path) -> PathBuf {
    match &options.kubelet_dir {
        Some(dir) => dir.clone(),
        None if data_dir == Path::new("/var/lib/sampan") => "/var/lib/kubelet".into(),
        None => data_dir.join("kubelet"),
    }
}

/// Static pods' directory, which must be one.
pub fn pod_manifest_path(options: &NodeOptions) -> Result<Option<PathBuf>> {
    let Some(path) = &options.pod_manifest_path else { return Ok(None) };
    if !path.is_dir() {
        bail!("--pod-manifest-path {} is not a directory", path.display());
    }
    Ok(Some(path.canonicalize().with_context(|| format!("--pod-manifest-path {}", path.display()))?))
}

/// The node's own addresses that its serving certificate names.
pub fn addresses(node_ips: HostIps) -> Vec<IpAddr> {
    node_ips.iter().chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).collect()
}
