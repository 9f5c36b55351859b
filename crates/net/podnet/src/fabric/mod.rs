//! The way to the other nodes' pods.
//!
//! ```text
//!   Nodes (watched) ─▶ plan: block 10.42.2.0/24 of node n2 ─▶ kernel: routes, neighbours, forwarding entries
//!                        ▲                          │
//!   direct probe back? ──┘                          ├─ tunnel:  via 10.42.2.0 dev vx…    (VXLAN to n2's address)
//!   (an echo from 10.42.1.255 to 10.42.2.255)       └─ direct:  via n2's address dev eth0
//! ```
//!
//! Each of a node's blocks, one per family, has two addresses that no pod gets and that the node itself answers: the first one is its end of the
//! tunnel, the last one is there to be probed. An echo between two of those has pods' addresses and is never
//! tunnelled, so that its coming back says that the network between the nodes carries pods' packets as they are.
//! Until then, and whenever it stays away, packets go through the tunnel.
//!
//! [`liveness`] asks the other nodes' kernels whether they are there.

mod kernel;
mod liveness;
mod peers;
mod plan;
mod prober;

use std::collections::BTreeSet;
use std::sync::Arc;

use base_sys::route::{self, Route};
use base_tasks::{Tasks, blocking};
use k8s_openapi::api::core::v1::Node;
use machinery_client::kube::runtime::watcher;
use machinery_client::kube::{Api, Client};
use machinery_client::{Change, Informer, informer};
use tokio::sync::{mpsc, watch};

use self::kernel::Kernel;
use self::peers::{Peer, Peers};
use self::prober::{Probed, Prober};
use crate::network::Network;
use crate::{host, link};

pub use self::kernel::remove;
pub(crate) use self::peers::NodeView;
pub use self::plan::tunnel_address;

/// VXLAN's port on Linux, and k3s's.
const TUNNEL_PORT: u16 = 8472;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("talk to the kernel's routing")]
    Route(#[from] route::Error),
    #[error("remove the tunnel to the other nodes")]
    Tunnel(#[source] link::Error),
    #[error("the link {0} vanished while it was set up")]
    Vanished(String),
    #[error("find this node's own link")]
    Uplink(#[from] host::Error),
    #[error("this node has no block of pod addresses")]
    NoNetwork,
    #[error("open a socket for probes of other nodes")]
    Probe(#[source] std::io::Error),
}

/// What this node is among the others.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    pub node_name: String,
    /// The tunnel goes between node addresses of the first one's family.
    pub networks: Vec<Network>,
    /// The name of the tunnel's link. `None`: somebody else carries pods' packets between nodes, and these are only asked
    /// whether they are there.
    pub tunnel: Option<String>,
    /// Tells this cluster's tunnels from others' on the same wire: 24 bits, the same on all its nodes.
    pub network_id: u32,
}

/// The running fabric. Cheap to clone.
#[derive(Clone)]
pub struct Fabric {
    suspects: watch::Receiver<BTreeSet<String>>,
    pub(crate) nodes: Informer<NodeView>,
}

impl Fabric {
    /// Nodes whose kernels do not answer, by name.
    pub fn suspects(&self) -> watch::Receiver<BTreeSet<String>> {
        self.suspects.clone()
    }
}

/// Starts in the calling thread's network namespace. Routes of an earlier run stay until the Nodes are known.
pub fn start(tasks: &Tasks, client: Client, config: FabricConfig) -> Result<Fabric, Error> {
    let tasks = tasks.child("fabric");
    let kernel = config.tunnel.as_deref().map(|tunnel| Kernel::open(&config, tunnel)).transpose()?;
    let mtu = match &kernel {
        Some(kernel) => kernel.mtu(),
        None => kernel::uplink_mtu(&mut Route::open()?, config.networks.first().ok_or(Error::NoNetwork)?.node_ip)?,
    };
    let nodes =
        informer(&tasks, Api::<Node>::all(client), watcher::Config::default(), |node: Node| Some(NodeView::of(&node)));
    let (told, peers) = watch::channel(Vec::new());
    let (suspect, suspects) = watch::channel(BTreeSet::new());
    let (found, probed) = watch::channel(Probed::default());
    let prober = Prober::open(&config.networks, mtu, peers, suspect, found).map_err(Error::Probe)?;
    tasks.spawn("probe", prober.run());
    let (all, peers) = (nodes.clone(), Peers::of(&config.node_name));
    tasks.spawn("routes", async move {
        all.synced().await;
        match kernel {
            Some(kernel) => Routes { kernel: Some(kernel), peers, told }.run(all.subscribe(), probed).await,
            None => watch_peers(peers, &told, all.subscribe()).await,
        }
    });
    Ok(Fabric { suspects, nodes })
}

/// Without ways of ours there is none to probe.
async fn watch_peers(
    mut peers: Peers,
    told: &watch::Sender<Vec<Arc<Peer>>>,
    mut nodes: mpsc::UnboundedReceiver<Change<NodeView>>,
) {
    while let Some(change) = nodes.recv().await {
        peers.change(change);
        let wayless = |peer: &Arc<Peer>| Arc::new(Peer { blocks: Vec::new(), ..(**peer).clone() });
        let others: Vec<_> = peers.all().iter().map(wayless).collect();
        told.send_if_modified(|told| {
            let changed = *told != others;
            *told = others;
            changed
        });
    }
}

struct Routes {
    /// Absent only while a blocking thread has it.
    kernel: Option<Kernel>,
    peers: Peers,
    /// Tells the prober whom to probe.
    told: watch::Sender<Vec<Arc<Peer>>>,
}

impl Routes {
    async fn run(mut self, mut nodes: mpsc::UnboundedReceiver<Change<NodeView>>, mut probed: watch::Receiver<Probed>) {
        loop {
            while let Ok(change) = nodes.try_recv() {
                self.peers.change(change);
            }
            let found = probed.borrow_and_update().clone();
            self.program(self.peers.all(), found).await;
            tokio::select! {
                Some(change) = nodes.recv() => self.peers.change(change),
                Ok(()) = probed.changed() => {}
                else => return,
            }
        }
    }

    async fn program(&mut self, peers: Vec<Arc<Peer>>, probed: Probed) {
        let mut kernel = self.kernel.take().expect("one change is awaited before the next");
        let (kernel, result, peers) = blocking(move || {
            let result = kernel.apply(&peers, &probed);
            (kernel, result, peers)
        })
        .await;
        self.kernel = Some(kernel);
        if let Err(error) = result {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the routes to other nodes' pods could not be written; the next change tries again"
            );
        }
        // After the routes: what is probed takes them.
        self.told.send_if_modified(|told| {
            let changed = *told != peers;
            *told = peers;
            changed
        });
    }
}
