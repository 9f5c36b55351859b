//! `sampan server`: a control plane and, unless told otherwise, a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_tasks::{Shutdown, Tasks};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{ControlPlane, facts};
use crate::config::Server;
use crate::front_proxy::FrontProxy;
use crate::host::{self, Names};
use crate::kubeconfig;
use crate::node::{self, Clients, Node};
use crate::owned::{self, Owned};
use crate::pki::{self, Authority};

/// The node's own API, as upstream's kubelet.
const KUBELET_PORT: u16 = 10250;
/// What parts may take to end once told to.
const DRAIN: Duration = Duration::from_secs(15);
/// Which address of the service range is the DNS's, by k3s's custom.
const DNS_NUMBER: u32 = 10;

pub async fn run(options: Server) -> Result<()> {
    // From the first moment: a signal during the start is a clean end, too.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let data_dir = host::data_dir(&options.data.data_dir)?;
    let plan = Plan::of(&options)?;
    let tasks = Tasks::root("sampan");
    let authority = Arc::new(Authority::open(&data_dir.join("tls"))?);
    let front_proxy = FrontProxy::open(&data_dir.join("tls"), &options.request_header)?;
    let address = SocketAddr::new(options.bind_address, options.https_listen_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;

    let facts = facts(IpAddr::V4(plan.node_ip), options.https_listen_port, IpAddr::V4(plan.cluster_dns));
    let mut control = ControlPlane::open(&tasks, &data_dir, &options, &authority, &front_proxy, facts).await?;
    write_kubeconfig(&data_dir, &options, &authority)?;
    let tls = {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", &plan.service_name()];
        let mut ips = host::addresses();
        ips.extend([IpAddr::V4(plan.node_ip), IpAddr::V4(plan.kubernetes)]);
        Arc::new(authority.open_config(&authority.server("kube-apiserver", &names, &ips)?, front_proxy.authorities())?)
    };
    let (api, stop) = (control.api.clone(), tasks.cancelled());
    tasks.spawn_draining("api", async move { api.serve(listener, tls, stop).await });
    tracing::info!(%address, data_dir = %data_dir.display(), "the API is ready");

    control.start_controllers(&tasks);
    if !options.disable_agent {
        let clients = Clients {
            agent: control.client(&format!("system:node:{}", plan.node_name), &["system:nodes"]),
            network: control.client("system:kube-proxy", &[]),
        };
        plan.node(&data_dir, &options, &authority)?.start(&tasks, clients).await?;
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping; the pods go on"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping; the pods go on"),
        () = tasks.cancelled() => {}
    }
    // Cancelled already, and not by a signal: some part could not go on.
    let ended = tasks.is_cancelled();
    if let Shutdown::Abandoned(count) = tasks.shutdown(DRAIN).await {
        tracing::warn!(count, "tasks did not end in time");
    }
    control.close().await;
    if ended {
        bail!("a part of the server failed; see the log");
    }
    Ok(())
}

/// The options with their defaults worked out.
struct Plan {
    node_name: String,
    node_ip: Ipv4Addr,
    cluster_dns: Ipv4Addr,
    /// The ClusterIP of the Service `kubernetes`.
    kubernetes: Ipv4Addr,
    cluster_domain: String,
}

impl Plan {
    fn of(options: &Server) -> Result<Self> {
        let services = options.service_cidr;
        if options.cluster_cidr.overlaps(services) {
            bail!("--cluster-cidr {} and --service-cidr {services} overlap", options.cluster_cidr);
        }
        let node_name = match &options.node_name {
            Some(name) => {
                let problems = base_meta::names::dns1123_subdomain(name);
                if !problems.is_empty() {
                    bail!("--node-name {name:?}: {}", problems.join("; "));
                }
                name.clone()
            }
            None => host::node_name()?,
        };
        let cluster_dns = match options.cluster_dns {
            Some(address) if services.contains(address) => address,
            Some(address) => bail!("--cluster-dns {address} is not in --service-cidr {services}"),
            None => services.nth(DNS_NUMBER).context("--service-cidr is too small for a DNS address")?,
        };
        let node_ip = match options.node_ip {
            Some(address) if address.is_loopback() => {
                bail!("--node-ip {address} is a loopback address: pods could not reach the node by it")
            }
            Some(address) => address,
            None => host::node_ip()?,
        };
        let domain = &options.cluster_domain;
        let problems = base_meta::names::dns1123_subdomain(domain);
        if !problems.is_empty() {
            bail!("--cluster-domain {domain:?}: {}", problems.join("; "));
        }
        Ok(Self {
            node_name,
            node_ip,
            cluster_dns,
            kubernetes: services.nth(1).context("--service-cidr is too small")?,
            cluster_domain: domain.clone(),
        })
    }

    fn service_name(&self) -> String {
        format!("kubernetes.default.svc.{}", self.cluster_domain)
    }

    fn node(&self, data_dir: &Path, options: &Server, authority: &Authority) -> Result<Node> {
        let ips = node::addresses(self.node_ip);
        let leaf = authority.server(&format!("system:node:{}", self.node_name), &[&self.node_name], &ips)?;
        Ok(Node {
            data_dir: data_dir.to_owned(),
            names: Names::of(data_dir),
            name: self.node_name.clone(),
            owned: Owned {
                node_ip: self.node_ip,
                node_cidr: owned::node_cidr(options.cluster_cidr)?.to_string(),
                service_cidr: options.service_cidr.to_string(),
                cluster_dns: self.cluster_dns,
            },
            cluster_cidr: options.cluster_cidr,
            service_cidr: options.service_cidr,
            cluster_domain: self.cluster_domain.clone(),
            registries: options.private_registry.clone(),
            tls: Arc::new(authority.server_config(&leaf)?),
            kubelet_port: KUBELET_PORT,
        })
    }
}

fn write_kubeconfig(data_dir: &Path, options: &Server, authority: &Authority) -> Result<()> {
    let admin = authority.client("kubernetes-admin", &["system:masters"])?;
    // Where this host reaches it; the certificate names every address for those who copy the file elsewhere.
    let host = match options.bind_address {
        address if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address,
    };
    let server = format!("https://{}", SocketAddr::new(host, options.https_listen_port));
    let text = kubeconfig::render(&server, &authority.ca_pem, &admin);
    pki::write_private(&data_dir.join("kubeconfig.yaml"), text.as_bytes())?;
    match &options.write_kubeconfig {
        Some(path) => pki::write_private(path, text.as_bytes()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{Cli, Command};

    #[test]
    fn a_node_is_not_reached_by_a_loopback_address() {
        let cli = Cli::parse_from(["sampan", "server", "--node-ip", "127.0.0.1", "--node-name", "one"]);
        let Command::Server(options) = cli.command else { panic!("another command") };
        let refused = Plan::of(&options).err().expect("refused").to_string();
        assert!(refused.starts_with("--node-ip 127.0.0.1 is a loopback address"), "{refused}");
    }
}
