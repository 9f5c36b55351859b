//! The pod network, whose pods' sockets the data plane balances.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net_proxy::Namespaces;
use node_agent::seams::{Network, SeamError, Wiring};
use tokio::sync::watch;

/// Whether sockets are balanced.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketLoadBalancing {
    Auto,
    Off,
}

/// Where what balances sockets outlives the binary.
pub fn pins(data_dir: &Path) -> PathBuf {
    data_dir.join("bpf")
}

pub struct Balanced {
    pub network: Arc<dyn Network>,
    pub namespaces: Namespaces,
}

#[async_trait::async_trait]
impl Network for Balanced {
    async fn attach(&self, wiring: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        let (sandbox, netns) = (wiring.sandbox, wiring.netns);
        let ips = self.network.attach(wiring).await?;
        self.namespaces.enter(sandbox, netns).await;
        Ok(ips)
    }

    async fn detach(&self, sandbox: &str) -> Result<(), SeamError> {
        self.network.detach(sandbox).await?;
        self.namespaces.leave(sandbox).await;
        Ok(())
    }

    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError> {
        self.network.reconcile(live).await?;
        self.namespaces.keep(live).await;
        Ok(())
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.network.trouble()
    }
}
