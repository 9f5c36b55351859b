//! `net_podnet` as [`Network`].

use async_trait::async_trait;
use net_podnet::PodNet;
use std::net::IpAddr;
use tokio::sync::watch;

use crate::seams::{Network, SeamError, Wiring};

pub struct PodNetwork(pub PodNet);

#[async_trait]
impl Network for PodNetwork {
    async fn attach(&self, Wiring { sandbox, netns, .. }: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        let addresses = self.0.attach(sandbox, netns).await;
        Ok(addresses.map_err(|error| SeamError::new("connect sandbox", sandbox, error))?.ips)
    }

    async fn detach(&self, sandbox: &str) -> Result<(), SeamError> {
        self.0.detach(sandbox).await.map(drop).map_err(|error| SeamError::new("disconnect sandbox", sandbox, error))
    }

    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError> {
        let result = self.0.reconcile(live.iter().cloned().collect()).await;
        result.map(drop).map_err(|error| SeamError::new("free addresses of", "removed sandboxes", error))
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        watch::Sender::new(None).subscribe()
    }
}
