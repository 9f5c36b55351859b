//! CNI plug-ins as the node agent's network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base_tasks::Tasks;
use clap::Args;
use net_cni::{Cni, CniConfig, Dns};
use node_agent::seams::{self, SeamError, Wiring};
use tokio::sync::watch;

/// Plug-ins in place of the built-in pod network.
#[derive(Args, Debug, Clone)]
pub struct CniOptions {
    /// Where configurations of CNI networks are; plug-ins connect pods by the first one, in place of the built-in pod
    /// network [default: built-in].
    #[arg(long, env = "SAMPAN_CNI_CONF_DIR", value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,

    /// Where the plug-ins' programs are; the first folder that has one counts.
    #[arg(
        long,
        env = "SAMPAN_CNI_BIN_DIR",
        value_name = "DIRS",
        value_delimiter = ',',
        default_value = "/opt/cni/bin,/usr/lib/cni"
    )]
    pub cni_bin_dir: Vec<PathBuf>,
}

/// Where plug-ins and their configurations are.
#[derive(Clone, Debug)]
pub struct PlugIns {
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
}

impl PlugIns {
    /// `None` where the built-in network is wanted.
    pub fn of(options: &CniOptions) -> Result<Option<Self>> {
        let Some(conf_dir) = options.cni_conf_dir.clone() else { return Ok(None) };
        for (option, path) in
            options.cni_bin_dir.iter().map(|path| ("--cni-bin-dir", path)).chain([("--cni-conf-dir", &conf_dir)])
        {
            // The programs are told these, and run elsewhere.
            if !path.is_absolute() {
                bail!("{option} {} must be an absolute path", path.display());
            }
        }
        Ok(Some(Self { conf_dir, bin_dirs: options.cni_bin_dir.clone() }))
    }
}

/// What is connected.
pub fn records(data_dir: &Path) -> PathBuf {
    data_dir.join("net").join("cni")
}

pub struct CniNetwork(Cni);

impl CniNetwork {
    /// A pod's primary address is of the family of `node_ip`.
    pub async fn start(tasks: &Tasks, plug_ins: &PlugIns, data_dir: &Path, node_ip: IpAddr) -> Result<Self> {
        let PlugIns { conf_dir, bin_dirs } = plug_ins.clone();
        let config = CniConfig { conf_dir, bin_dirs, state_dir: records(data_dir), node_ip };
        Ok(Self(Cni::start(tasks, config).await.context("opening the network of CNI plug-ins")?))
    }
}

#[async_trait::async_trait]
impl seams::Network for CniNetwork {
    async fn attach(&self, Wiring { sandbox, netns, pod, dns }: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        let seams::Dns { servers, searches, options } = dns.clone();
        let attached = self.0.attach(sandbox, netns, pod, &Dns { servers, searches, options }).await;
        attached.map_err(|error| SeamError::new("connect sandbox", sandbox, error))
    }

    async fn detach(&self, sandbox: &str) -> Result<(), SeamError> {
        self.0.detach(sandbox).await.map_err(|error| SeamError::new("disconnect sandbox", sandbox, error))
    }

    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError> {
        let result = self.0.reconcile(&live.iter().cloned().collect()).await;
        result.map_err(|error| SeamError::new("free addresses of", "removed sandboxes", error))
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.0.trouble()
    }
}
