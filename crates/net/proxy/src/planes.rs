//! Both ways from a front end to its endpoint, which follow the same plan: nftables, which has all front ends, and sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base_sys::nft;

use crate::affinity::StaleClients;
use crate::frontend::{Backends, Frontend};
use crate::kernel::Kernel;
use crate::network::ProxyConfig;
use crate::sockets::{self, Namespaces, Sockets};

type Frontends = BTreeMap<Frontend, Backends>;

#[derive(Debug)]
pub(crate) struct Planes {
    kernel: Kernel,
    /// Absent where they are not wanted, the kernel refused them, or they failed.
    sockets: Option<Sockets>,
}

impl Planes {
    pub(crate) fn open(config: ProxyConfig) -> Result<(Self, Namespaces), nft::Error> {
        let opened = config.sockets.as_ref().map(Sockets::open).transpose();
        let kernel = Kernel::open(config)?;
        let (sockets, namespaces) = match opened {
            Ok(opened) => opened.unzip(),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sockets are not balanced; packets to services are translated"
                );
                (None, None)
            }
        };
        Ok((Self { kernel, sockets }, namespaces.unwrap_or_default()))
    }

    /// Begins with what an earlier run left.
    pub(crate) fn resume(
        &mut self,
        frontends: &Frontends,
        hairpins: &BTreeSet<IpAddr>,
    ) -> Result<StaleClients, nft::Error> {
        let stale = self.kernel.resume(frontends, hairpins)?;
        self.on_sockets(|sockets| sockets.load(frontends));
        Ok(stale)
    }

    /// Writes everything anew.
    pub(crate) fn load(
        &mut self,
        frontends: &Frontends,
        hairpins: &BTreeSet<IpAddr>,
    ) -> Result<StaleClients, nft::Error> {
        self.kernel.load(frontends, hairpins)?;
        self.on_sockets(|sockets| sockets.load(frontends));
        Ok(StaleClients::default())
    }

    /// Brings some front ends up to date (`None`: shall be gone).
    pub(crate) fn apply(
        &mut self,
        frontends: &BTreeMap<Frontend, Option<Backends>>,
        add_hairpins: Vec<IpAddr>,
        remove_hairpins: Vec<IpAddr>,
    ) -> Result<StaleClients, nft::Error> {
        let stale = self.kernel.apply(frontends, add_hairpins, remove_hairpins)?;
        self.on_sockets(|sockets| sockets.apply(frontends));
        Ok(stale)
    }

    /// A map that does not follow would lead to endpoints that are gone: then there is none.
    fn on_sockets(&mut self, work: impl FnOnce(&mut Sockets) -> Result<(), sockets::Error>) {
        let Some(sockets) = &mut self.sockets else { return };
        let Err(error) = work(sockets) else { return };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "sockets are no longer balanced; packets to services are translated"
        );
        if let Some(Err(error)) = self.sockets.take().map(Sockets::give_up) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "sockets may still connect to endpoints that are gone"
            );
        }
    }
}
