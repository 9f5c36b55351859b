//! The pod network as the node agent sees it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base_sys::crash;
use base_sys::netns::{self, NetNs};
use base_sys::nft;
use base_sys::route::{self, Route};

use crate::lease::Leases;
use crate::link::{self, PodLink};
use crate::network::Network;
use crate::{firewall, host, lease};

/// Linux names interfaces with at most fifteen bytes; the address takes eight.
const MAX_PREFIX: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the interface prefix {0:?} must have 1 to 6 letters or digits")]
    Prefix(String),
    #[error("open a routing socket")]
    Route(#[from] route::Error),
    #[error("prepare the node for pods")]
    Host(#[from] host::Error),
    #[error("keep address leases")]
    Lease(#[from] lease::Error),
    #[error("open the network namespace of sandbox {sandbox}")]
    NetNs {
        sandbox: String,
        #[source]
        source: netns::Error,
    },
    #[error("connect sandbox {sandbox}")]
    Attach {
        sandbox: String,
        #[source]
        source: link::Error,
    },
    #[error("remove link {name}")]
    Detach {
        name: String,
        #[source]
        source: link::Error,
    },
    #[error("remove our rules from other programs' firewalls")]
    Firewall(#[from] nft::Error),
    #[error("pod network work was cut off by shutdown")]
    Cancelled,
}

/// What the pod network owns and where it keeps it.
#[derive(Clone, Debug)]
pub struct PodNetConfig {
    /// Below the data directory: leases.
    pub state_dir: PathBuf,
    /// Shared by all Sampans of the host and emptied at boot (`/run/sampan`): the recorded kernel parameters.
    pub host_state_dir: PathBuf,
    /// A pod gets an address of each.
    pub networks: Vec<Network>,
    /// Names of all host ends start with it; unique to the data directory, 1 to 6 letters or digits.
    pub interface_prefix: String,
    /// Of pod links; the kernel's default of 1500 when absent.
    pub mtu: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddresses {
    /// One per family, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The host end's name.
    pub interface: String,
}

/// A handle; clones share the network.
#[derive(Clone, Debug)]
pub struct PodNet {
    config: Arc<PodNetConfig>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    route: Route,
}

impl PodNet {
    /// Recovers the leases of an earlier run and prepares the node. Must run in the node's network namespace.
    pub fn open(config: PodNetConfig) -> Result<Self, Error> {
        let prefix = &config.interface_prefix;
        if !(1..=MAX_PREFIX).contains(&prefix.len()) || !prefix.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(Error::Prefix(prefix.clone()));
        }
        let leases = config.leases()?;
        config.prepare_node()?;
        let route = Route::open()?;
        pass_foreign_firewalls(prefix);
        Ok(Self { config: Arc::new(config), state: Arc::new(Mutex::new(State { leases, route })) })
    }

    /// Connects a sandbox's network namespace and gives it an address of each family. Doing so again changes nothing and
    /// returns the same ones, also after a restart.
    pub async fn attach(&self, sandbox: &str, netns: &Path) -> Result<PodAddresses, Error> {
        let (this, sandbox, netns) = (self.clone(), sandbox.to_owned(), netns.to_owned());
        blocking(move || this.attach_now(&sandbox, &netns)).await
    }

    fn attach_now(&self, sandbox: &str, netns: &Path) -> Result<PodAddresses, Error> {
        let netns = NetNs::open(netns).map_err(|source| Error::NetNs { sandbox: sandbox.into(), source })?;
        let failed = |source| Error::Attach { sandbox: sandbox.into(), source };
        let mut state = self.lock();
        // Under the lock, so that no two insert the same rules.
        pass_foreign_firewalls(&self.config.interface_prefix);
        let State { leases, route } = &mut *state;
        let known = !leases.get(sandbox).is_empty();
        let ips = leases.grant(sandbox)?.to_vec();
        crash::point("address granted");
        let interface = link::name(&self.config.interface_prefix, &ips);
        let node_ip = |ip: &IpAddr| {
            let network = self.config.networks.iter().find(|network| network.node_cidr.contains(*ip))?;
            Some((*ip, network.node_ip))
        };
        let addresses = ips.iter().filter_map(node_ip).collect();
        let pod = PodLink { name: &interface, sandbox, addresses, mtu: self.config.mtu };
        if known && pod.exists(route, &netns).map_err(failed)? {
            return Ok(PodAddresses { ips, interface });
        }
        if let Err(error) = pod.create(route, &netns) {
            if !known {
                leases.revoke(sandbox)?;
            }
            return Err(failed(error));
        }
        crash::point("link made");
        Ok(PodAddresses { ips, interface })
    }

    /// Disconnects a sandbox and frees its address. An unknown sandbox is fine.
    pub async fn detach(&self, sandbox: &str) -> Result<(), Error> {
        let (this, sandbox) = (self.clone(), sandbox.to_owned());
        blocking(move || this.detach_now(&sandbox)).await
    }

    fn detach_now(&self, sandbox: &str) -> Result<(), Error> {
        let addresses = self.lock().leases.get(sandbox).to_vec();
        if addresses.is_empty() {
            return Ok(());
        }
        let name = link::name(&self.config.interface_prefix, &addresses);
        // Deleting a link waits for other CPUs to let go of it: not under the lock that attaching needs.
        link::delete(&mut Route::open()?, &name).map_err(|source| Error::Detach { name, source })?;
        crash::point("link deleted");
        Ok(self.lock().leases.revoke(sandbox)?)
    }

    /// The addresses a sandbox has; none where it is not attached.
    pub fn addresses(&self, sandbox: &str) -> Vec<IpAddr> {
        self.lock().leases.get(sandbox).to_vec()
    }

    /// Removes the leases and links of sandboxes that are not in `live`.
    pub async fn reconcile(&self, live: HashSet<String>) -> Result<(), Error> {
        let this = self.clone();
        blocking(move || this.reconcile_now(&live)).await
    }

    fn reconcile_now(&self, live: &HashSet<String>) -> Result<(), Error> {
        let gone: Vec<String> =
            self.lock().leases.sandboxes().map(|(id, _)| id.to_owned()).filter(|id| !live.contains(id)).collect();
        for sandbox in gone {
            self.detach_now(&sandbox)?;
        }
        let mut state = self.lock();
        let prefix = &self.config.interface_prefix;
        let leased: HashSet<String> =
            state.leases.sandboxes().map(|(_, addresses)| link::name(prefix, addresses)).collect();
        for link in state.route.links(prefix)? {
            if !leased.contains(&link.name) {
                let name = link.name;
                link::delete(&mut state.route, &name).map_err(|source| Error::Detach { name, source })?;
            }
        }
        Ok(())
    }

    /// Removes everything that this configuration's pod network owns on the host, whoever made it and however it ended.
    pub fn remove_all(config: &PodNetConfig) -> Result<(), Error> {
        let mut route = Route::open()?;
        for link in route.links(&config.interface_prefix)? {
            let name = link.name;
            link::delete(&mut route, &name).map_err(|source| Error::Detach { name, source })?;
        }
        firewall::remove(&config.interface_prefix)?;
        for network in &config.networks {
            host::remove_service_route(&mut route, network)?;
        }
        host::release(&config.host_state_dir, &config.interface_prefix)?;
        let mut leases = config.leases()?;
        let sandboxes: Vec<String> = leases.sandboxes().map(|(id, _)| id.to_owned()).collect();
        for sandbox in sandboxes {
            leases.revoke(&sandbox)?;
        }
        Ok(())
    }

    /// A panic under the lock left no half-done change behind: each step is one call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodNetConfig {
    /// What the node needs whoever connects its pods: that it forwards their packets, and ways to service addresses. Must
    /// run in the node's network namespace; undone by [`PodNet::remove_all`].
    pub fn prepare_node(&self) -> Result<(), Error> {
        let mut route = Route::open()?;
        let families: Vec<IpAddr> = self.networks.iter().map(|network| network.node_ip).collect();
        let mut parameters = host::forwarding(&mut route, &families)?;
        parameters.extend(host::liberal());
        host::acquire(&self.host_state_dir, &self.interface_prefix, &parameters)?;
        for network in &self.networks {
            host::add_service_route(&mut route, network)?;
        }
        Ok(())
    }

    /// Lets processes of the node reach other hosts from loopback addresses, as node ports on 127.0.0.1 need: sets this
    /// kernel parameter, for as long as the others. Only where rules keep strangers from loopback addresses.
    pub fn route_loopback(&self, parameter: (&str, &str)) -> Result<(), Error> {
        let parameter = (parameter.0.to_owned(), parameter.1.to_owned());
        Ok(host::acquire(&self.host_state_dir, &self.interface_prefix, &[parameter])?)
    }

    /// Lets rules see what passes from one port of a bridge to another: else an answer between two pods of a bridge is not
    /// translated back. Fails where the kernel has no such thing (the module br_netfilter).
    pub fn filter_bridged(&self) -> Result<(), Error> {
        let of = |network: &Network| if network.node_ip.is_ipv4() { "iptables" } else { "ip6tables" };
        let names = self.networks.iter().map(|network| format!("net/bridge/bridge-nf-call-{}", of(network)));
        let parameters: Vec<_> = names.map(|name| (name, "1".to_owned())).collect();
        Ok(host::acquire(&self.host_state_dir, &self.interface_prefix, &parameters)?)
    }

    fn leases(&self) -> Result<Leases, Error> {
        Ok(Leases::open(&self.state_dir.join("leases"), self.networks.iter().map(|network| network.node_cidr))?)
    }
}

/// What another program's firewall drops is no reason to have no pods at all: it is told and may be mended by hand.
fn pass_foreign_firewalls(prefix: &str) {
    match firewall::accept_pods(prefix) {
        Ok(changed) => {
            for chain in changed {
                tracing::info!(
                    chain,
                    "another program's firewall drops forwarded packets: told it to accept those of pods"
                );
            }
        }
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "another program's firewall may drop forwarded packets, and accepting those of pods failed: they may not \
             reach each other or the outside"
        ),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|join| match join.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Error::Cancelled,
    })?
}
