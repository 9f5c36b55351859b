//! Pods that a foreign runtime connects, by CNI plug-ins of its own.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Core, CriRuntime};
use crate::seams::{Network, SeamError, Wiring};

/// Tells what the runtime did: it connects a sandbox when it makes it, and disconnects it when it stops it.
pub struct CriNetwork(Arc<Core>);

impl CriNetwork {
    pub fn new(runtime: &CriRuntime) -> Self {
        Self(Arc::clone(&runtime.core))
    }
}

#[async_trait]
impl Network for CriNetwork {
    async fn attach(&self, wiring: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError> {
        Ok(self.0.known(wiring.sandbox).await?.ips.clone())
    }

    async fn detach(&self, _sandbox: &str) -> Result<(), SeamError> {
        Ok(())
    }

    async fn reconcile(&self, _live: &[String]) -> Result<(), SeamError> {
        Ok(())
    }

    fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.0.trouble.subscribe()
    }
}
