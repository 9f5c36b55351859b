//! What a data directory's Sampan owns on this host, written down so that it can be removed after any end.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base_sys::route::Ipv4Cidr;
use net_podnet::PodNetConfig;
use serde::{Deserialize, Serialize};

use crate::cluster_facts::ClusterFacts;
use crate::host::Names;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Owned {
    pub node_ip: Ipv4Addr,
    /// This node's share of the cluster's pod addresses.
    pub node_cidr: String,
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

    pub fn node_cidr(&self) -> Result<Ipv4Cidr> {
        self.node_cidr.parse().context("this node's block of pod addresses")
    }

    pub fn podnet(&self, data_dir: &Path, names: &Names) -> Result<PodNetConfig> {
        Ok(PodNetConfig {
            state_dir: data_dir.join("net"),
            host_state_dir: net_podnet::forwarding::STATE.into(),
            node_cidr: self.node_cidr()?,
            service_cidr: self.facts.service_cidr()?,
            node_ip: self.node_ip,
            interface_prefix: names.interface_prefix.clone(),
            mtu: None,
        })
    }
}
