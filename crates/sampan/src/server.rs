//! `sampan server`: a control plane and, unless told otherwise, a node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base_sys::ip::HostIps;
use base_sys::route::IpCidr;
use base_tasks::Tasks;
use control_controllers::Supply;
use tokio::net::TcpListener;

use crate::cluster::{self, ControlPlane};
use crate::cluster_facts::ClusterFacts;
use crate::cni::PlugIns;
use crate::config::Server;
use crate::front_proxy::FrontProxy;
use crate::host::{self, Names};
use crate::kubeconfig;
use crate::node::{self, Clients, KUBELET_PORT, Node};
use crate::pki::{self, Authority};
use crate::renewing::Renewing;
use crate::run::{self, Signals};
use crate::runtime::Endpoints;
use crate::token;
use crate::users;

/// Which address of the service range is the DNS's, by k3s's custom.
const DNS_NUMBER: u128 = 10;

pub async fn run(options: Server) -> Result<()> {
    let signals = Signals::listen()?;
    let data_dir = host::data_dir(&options.data.data_dir)?;
    let plan = Plan::of(&options)?;
    let tasks = Tasks::root("sampan");
    let authority = Arc::new(Authority::open(&data_dir.join("tls"))?);
    let front_proxy = FrontProxy::open(&data_dir.join("tls"), &options.request_header)?;
    let address = SocketAddr::new(plan.bind_address, options.https_listen_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;

    let first = cluster::facts(plan.api_address(), options.https_listen_port, plan.cluster_dns);
    let mut control = ControlPlane::open(&tasks, &data_dir, &options, &authority, &front_proxy, first).await?;
    // Before anybody can ask: a node that joins at once finds both.
    let facts = plan.facts(&options, &authority);
    let admin = control.client("kubernetes-admin", &["system:masters"]);
    facts.publish(&admin).await?;
    if let Some(token) = &options.token {
        token::keep(&admin, &data_dir, token, &authority.trust).await?;
    }
    write_kubeconfig(&data_dir, address, &options, &authority)?;
    let tls = {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", &plan.service_name()];
        let mut ips = host::addresses();
        ips.extend(plan.node_ips.iter().chain([plan.kubernetes]));
        ips.extend(&options.node.node_external_ip);
        let own = Renewing::new({
            let (authority, names) = (authority.clone(), names.map(str::to_owned));
            move || {
                let leaf = authority.server("kube-apiserver", &names.each_ref().map(String::as_str), &ips)?;
                // Nodes that join know the authority by its hash alone: it is shown.
                leaf.certified(std::slice::from_ref(&authority.trust.der))
            }
        })?;
        Arc::new(authority.trust.server(own, front_proxy.authorities())?)
    };
    let (api, stop) = (control.api.clone(), tasks.cancelled());
    tasks.spawn_draining("api", async move { api.serve(listener, tls, stop).await });
    tracing::info!(%address, data_dir = %data_dir.display(), "the API is ready");

    let balancers = Supply {
        pool: options.load_balancer_pool.clone().unwrap_or_default(),
        reserved: vec![options.https_listen_port, KUBELET_PORT],
    };
    control.start_controllers(&tasks, options.cluster_cidr.iter().collect(), balancers);
    if !options.disable_agent {
        let clients = Clients {
            agent: control.client(&format!("system:node:{}", plan.node_name), &["system:nodes"]),
            network: control.client("system:kube-proxy", &[]),
        };
        let node = plan.node(&data_dir, &options, &authority, facts)?;
        match signals.or(Box::pin(node.start(&tasks, clients))).await {
            Some(started) => started?,
            None => tasks.cancel(),
        }
    }
    run::until_told(tasks, signals, control.close()).await
}

/// The options with their defaults worked out.
struct Plan {
    node_name: String,
    node_ips: HostIps,
    bind_address: IpAddr,
    cluster_dns: IpAddr,
    /// The ClusterIP of the Service `kubernetes`.
    kubernetes: IpAddr,
    cluster_domain: String,
}

impl Plan {
    fn of(options: &Server) -> Result<Self> {
        let pods: Vec<IpCidr> = options.cluster_cidr.iter().collect();
        let services: Vec<IpCidr> = options.service_cidr.iter().collect();
        for pods in &pods {
            if let Some(services) = services.iter().find(|services| services.overlaps(*pods)) {
                bail!("--cluster-cidr {pods} and --service-cidr {services} overlap");
            }
        }
        let lacks = |blocks: &[IpCidr], v4| blocks.iter().all(|block| block.is_ipv4() != v4);
        if [true, false].into_iter().any(|v4| lacks(&pods, v4) != lacks(&services, v4)) {
            let (pods, services) = (&options.cluster_cidr, &options.service_cidr);
            bail!("--cluster-cidr {pods} and --service-cidr {services} must be of the same families");
        }
        let node_name = host::chosen_node_name(options.node.node_name.as_deref())?;
        let first = services.first().context("--service-cidr is empty")?;
        let cluster_dns = match options.cluster_dns {
            Some(address) if first.contains(address) => address,
            Some(address) => bail!("--cluster-dns {address} is not in --service-cidr {first}"),
            None => first.nth(DNS_NUMBER).context("--service-cidr is too small for a DNS address")?,
        };
        let node_ips = host::node_ips(options.node.node_ip, &pods)?;
        // A socket of IPv6 takes connections of both.
        let six = pods.iter().any(|block| !block.is_ipv4());
        let any = if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let domain = &options.cluster_domain;
        let problems = base_meta::names::dns1123_subdomain(domain);
        if !problems.is_empty() {
            bail!("--cluster-domain {domain:?}: {}", problems.join("; "));
        }
        Ok(Self {
            node_name,
            node_ips,
            bind_address: options.bind_address.unwrap_or(any),
            cluster_dns,
            kubernetes: first.nth(1).context("--service-cidr is too small")?,
            cluster_domain: domain.clone(),
        })
    }

    fn service_name(&self) -> String {
        format!("kubernetes.default.svc.{}", self.cluster_domain)
    }

    /// Of the family of the Service `kubernetes`, where this host has one.
    fn api_address(&self) -> IpAddr {
        self.node_ips.beside(self.kubernetes).unwrap_or(self.node_ips.primary)
    }

    fn facts(&self, options: &Server, authority: &Authority) -> ClusterFacts {
        let (pods, services) = (&options.cluster_cidr, &options.service_cidr);
        ClusterFacts::new(pods, services, self.cluster_dns, &self.cluster_domain, authority.trust.network_id())
    }

    fn node(&self, data_dir: &Path, options: &Server, authority: &Arc<Authority>, facts: ClusterFacts) -> Result<Node> {
        let ips = node::addresses(self.node_ips);
        let own = Renewing::new({
            let (authority, name) = (authority.clone(), self.node_name.clone());
            move || authority.server(&format!("system:node:{name}"), &[&name], &ips)?.certified(&[])
        })?;
        Ok(Node {
            kubelet_dir: node::kubelet_dir(&options.node, data_dir),
            users: users::ranges(data_dir, node::MAX_PODS)?,
            data_dir: data_dir.to_owned(),
            names: Names::of(data_dir),
            name: self.node_name.clone(),
            node_ips: self.node_ips,
            facts,
            registries: options.node.private_registry.clone(),
            reserved: options.node.system_reserved.and(&options.node.kube_reserved),
            pod_max_pids: options.node.pod_max_pids,
            socket_load_balancing: options.node.socket_load_balancing,
            images: crate::node::image_policy(&options.node.images)?,
            eviction: crate::node::eviction_policy(&options.node.eviction)?,
            shutdown: crate::node::shutdown_policy(&options.node.shutdown)?,
            credential_providers: node::credential_providers(&options.node)?,
            cri_socket: options.node.cri_socket.clone(),
            pod_manifest_path: node::pod_manifest_path(&options.node)?,
            unsafe_sysctls: options.node.allowed_unsafe_sysctls.iter().cloned().collect(),
            cni: PlugIns::of(&options.node.cni)?,
            runtime: Endpoints::of(&options.node.runtime),
            tls: Arc::new(authority.trust.server(own, &[])?),
            external_ips: options.node.node_external_ip.clone(),
            kubelet_port: KUBELET_PORT,
        })
    }
}

fn write_kubeconfig(data_dir: &Path, listens: SocketAddr, options: &Server, authority: &Authority) -> Result<()> {
    let admin = authority.client("kubernetes-admin", &["system:masters"])?;
    // Where this host reaches it; the certificate names every address for those who copy the file elsewhere.
    let host = match listens.ip() {
        address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address,
    };
    let server = format!("https://{}", SocketAddr::new(host, listens.port()));
    let text = kubeconfig::render(&server, &authority.trust.pem, &admin);
    pki::write_private(&data_dir.join("kubeconfig.yaml"), text.as_bytes())?;
    match &options.write_kubeconfig {
        Some(path) => pki::write_private(path, text.as_bytes()),
        None => Ok(()),
    }
}
