//! What a data directory's Sampan owns on this host, written down so that it can be removed after any end.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base_sys::ip::HostIps;
use base_sys::route::IpCidr;
use net_podnet::{Network, PodNetConfig};
use serde::{Deserialize, Serialize};

use crate::cluster_facts::{self, ClusterFacts};
use crate::host::Names;
use crate::runtime::OwnedAtRuntime;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Owned {
    /// As the command line has it.
    pub node_ip: String,
    /// This node's shares of the cluster's pod addresses, with commas between them.
    pub node_cidr: String,
    /// Where the plug-ins' programs are, where those connect pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cni_bin_dirs: Vec<PathBuf>,
    /// What is in a foreign container runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<OwnedAtRuntime>,
    /// Where drivers of volumes mount.
    #[serde(default)]
    pub kubelet_dir: PathBuf,
    /// Of the cluster, so that a restart needs no server.
    #[serde(flatten)]
    pub facts: ClusterFacts,
}

impl Owned {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("node.json")
    }

    pub fn write(&self, data_dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("writing what this node owns")?;
        crate::pki::write_private(&Self::path(data_dir), &text)
    }

    /// `None` where no node ever ran.
    pub fn read(data_dir: &Path) -> Result<Option<Self>> {
        let path = Self::path(data_dir);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("parsing {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// One per family, the preferred one first.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let node_ips: HostIps = self.node_ip.parse().context("this node's addresses")?;
        let blocks = cluster_facts::list(&self.node_cidr).context("this node's blocks of pod addresses")?;
        let services = self.facts.service_cidrs()?;
        let beside =
            |cidrs: &[IpCidr], other: IpCidr| cidrs.iter().find(|cidr| cidr.is_ipv4() == other.is_ipv4()).copied();
        let network = |cluster_cidr: IpCidr| {
            Ok(Network {
                cluster_cidr,
                service_cidr: beside(&services, cluster_cidr)
                    .with_context(|| format!("the cluster has no range of service addresses beside {cluster_cidr}"))?,
                node_cidr: beside(&blocks, cluster_cidr).with_context(|| {
                    format!(
                        "this node has no block of {cluster_cidr}: it joined when the cluster had other families; \
                         `sampan uninstall` and join again"
                    )
                })?,
                node_ip: node_ips.beside(cluster_cidr.network()).with_context(|| {
                    format!("this host has no address of the family of the pods' range {cluster_cidr}; use --node-ip")
                })?,
            })
        };
        self.facts.cluster_cidrs()?.into_iter().map(network).collect()
    }

    pub fn podnet(&self, data_dir: &Path, names: &Names) -> Result<PodNetConfig> {
        Ok(PodNetConfig {
            state_dir: data_dir.join("net"),
            host_state_dir: net_podnet::forwarding::STATE.into(),
            networks: self.networks()?,
            interface_prefix: names.interface_prefix.clone(),
            mtu: None,
        })
    }
}
