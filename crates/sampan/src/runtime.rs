//! A foreign container runtime in place of the embedded one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use base_tasks::Tasks;
use clap::Args;
use node_agent::cri::{self, CriImages, CriNetwork, CriRuntime, Endpoint, Facts};
use node_agent::seams::{Network, RuntimeEvent, SeamError, Wiring};
use node_oci::Groups;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::cni_plugin::{self, Installed};

/// Where a runtime looks that does not say where.
const CONF_DIR: &str = "/etc/cni/net.d";
const BIN_DIR: &str = "/opt/cni/bin";

/// A container runtime in place of the embedded one.
#[derive(Args, Debug, Clone)]
pub struct RuntimeOptions {
    /// Socket of a container runtime that speaks the CRI: unix:///run/containerd/containerd.sock [default: built-in].
    #[arg(long, env = "SAMPAN_CONTAINER_RUNTIME_ENDPOINT", value_name = "SOCKET", value_parser = socket)]
    pub container_runtime_endpoint: Option<PathBuf>,

    /// Socket of the runtime's images [default: the same].
    #[arg(
        long,
        env = "SAMPAN_IMAGE_SERVICE_ENDPOINT",
        value_name = "SOCKET",
        value_parser = socket,
        requires = "container_runtime_endpoint"
    )]
    pub image_service_endpoint: Option<PathBuf>,
}

/// An absolute path, as upstream takes it: with or without `unix://`.
fn socket(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text.strip_prefix("unix://").unwrap_or(text));
    if path.is_absolute() { Ok(path) } else { Err("expected unix:///path/of/a.sock".to_owned()) }
}

/// Sockets of its services.
#[derive(Clone, Debug)]
pub struct Endpoints {
    runtime: PathBuf,
    images: PathBuf,
}

impl Endpoints {
    /// `None` where the embedded runtime is wanted.
    pub fn of(options: &RuntimeOptions) -> Option<Self> {
        let runtime = options.container_runtime_endpoint.clone()?;
        let images = options.image_service_endpoint.clone().unwrap_or_else(|| runtime.clone());
        Some(Self { runtime, images })
    }
}

/// What is left behind in a runtime and beside it, if nobody removes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnedAtRuntime {
    endpoint: PathBuf,
    /// `None` where other plug-ins connect the pods.
    plug_in: Option<Installed>,
}

impl OwnedAtRuntime {
    /// Ends the pods that a data directory has there.
    pub async fn remove(&self, data_dir: &Path, cgroup: &str) -> Result<()> {
        let tasks = Tasks::root("uninstall");
        let (endpoint, agent) = (Endpoint::new(&self.endpoint), data_dir.join("agent"));
        let (runtime, _events) = CriRuntime::new(endpoint, Groups::new(cgroup), agent, &tasks);
        let removed = runtime.remove_all().await;
        removed.with_context(|| format!("removing the pods of the runtime at {}", self.endpoint.display()))?;
        self.plug_in.as_ref().map_or(Ok(()), Installed::remove)
    }
}

/// A runtime that has answered.
pub struct Foreign {
    endpoints: Endpoints,
    pub facts: Facts,
    plug_in: Option<Installed>,
}

impl Foreign {
    /// `foreign_network`: it connects pods by plug-ins that are not ours.
    pub async fn find(endpoints: &Endpoints, foreign_network: bool) -> Result<Self> {
        let facts = cri::facts(&Endpoint::new(&endpoints.runtime)).await.with_context(|| {
            format!("asking the container runtime at {} (--container-runtime-endpoint)", endpoints.runtime.display())
        })?;
        let plug_in = (!foreign_network).then(|| {
            let told = facts.cni.clone();
            let (conf_dir, bin_dir) = told.unwrap_or_else(|| (CONF_DIR.into(), BIN_DIR.into()));
            Installed::at(&conf_dir, &bin_dir)
        });
        Ok(Self { endpoints: endpoints.clone(), facts, plug_in })
    }

    pub fn owned(&self) -> OwnedAtRuntime {
        OwnedAtRuntime { endpoint: self.endpoints.runtime.clone(), plug_in: self.plug_in.clone() }
    }

    pub fn open(
        &self,
        tasks: &Tasks,
        data_dir: &Path,
        cgroup: &str,
    ) -> (CriRuntime, mpsc::UnboundedReceiver<RuntimeEvent>) {
        let endpoint = Endpoint::new(&self.endpoints.runtime);
        CriRuntime::new(endpoint, Groups::new(cgroup), data_dir.join("agent"), tasks)
    }

    pub fn images(&self) -> CriImages {
        CriImages::new(Endpoint::new(&self.endpoints.images))
    }

    /// Lets the runtime connect pods to the built-in network.
    pub fn connect_by(&self, tasks: &Tasks, data_dir: &Path, network: Arc<dyn Network>) -> Result<()> {
        let Some(plug_in) = &self.plug_in else { return Ok(()) };
        let socket = cni_plugin::socket(data_dir);
        cni_plugin::serve(tasks, &socket, network)?;
        plug_in.install(&socket).context("installing the CNI plug-in for the container runtime")
    }
}

/// The network that a runtime's plug-ins make.
pub fn network(runtime: &CriRuntime) -> Arc<dyn Network> {
    Arc::new(CriNetwork::new(runtime))
}

/// The built-in network, in which pods can be connected when the runtime says so, too.
pub struct Told {
    pub network: Arc<dyn Network>,
    pub trouble: watch::Receiver<Option<String>>,
}

#[async_trait::async_trait]
impl Network for Told {
    async fn attach(&self, wiring: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        self.network.attach(wiring).await
    }

    async fn detach(&self, sandbox: &str) -> Result<(), SeamError> {
        self.network.detach(sandbox).await
    }

    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError> {
        self.network.reconcile(live).await
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_absolute_paths() {
        for good in ["unix:///run/a.sock", "/run/a.sock"] {
            assert_eq!(socket(good), Ok(PathBuf::from("/run/a.sock")));
        }
        for bad in ["", "a.sock", "unix://a.sock", "tcp://127.0.0.1:1"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }
}
