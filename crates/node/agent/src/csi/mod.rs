//! Volumes of CSI drivers, the node's side: which drivers there are, and what they stage and publish for pods.
//!
//! See README.md for a volume's way. Requests are made by the pure [`request`]; where things are says [`place`].

mod attach;
mod error;
mod expand;
mod locks;
mod mount;
mod node_object;
mod place;
mod registration;
mod request;
#[cfg(test)]
mod tests;
mod unmount;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base_tasks::Tasks;
use node_grpc::messages::csi::Capability;
use node_grpc::{Message, Status};
use tokio::sync::watch;

pub use error::{CsiError, CsiFailure, Step};
pub use request::Wanted;

use self::attach::Attachments;
use self::locks::Locks;
use self::place::Layout;

/// Upstream's limit of one call.
const CALL: Duration = Duration::from_secs(120);

/// A driver that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Driver {
    endpoint: PathBuf,
    capabilities: BTreeSet<i32>,
}

impl Driver {
    fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&(capability as i32))
    }

    async fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A, Status> {
        node_grpc::call(&self.endpoint, method, request, CALL).await
    }
}

type Drivers = BTreeMap<String, Driver>;

/// What the node knows of drivers and of what they hold.
pub struct Csi {
    layout: Layout,
    drivers: watch::Sender<Drivers>,
    locks: Locks,
    attachments: Attachments,
}

impl Csi {
    /// `root` is what upstream's kubelet calls its root directory, `owner` the agent's own.
    pub fn new(root: &Path, owner: &Path, node: &str) -> Self {
        let layout = Layout::new(root, owner);
        let attachments = Attachments::new(node, layout.in_use());
        Self { layout, drivers: watch::Sender::default(), locks: Locks::default(), attachments }
    }

    fn driver(&self, name: &str) -> Result<Driver, CsiError> {
        self.drivers.borrow().get(name).cloned().ok_or_else(|| CsiError::NotRegistered(name.to_owned()))
    }
}

/// Takes away what an agent of that directory has mounted below `root`, without asking the drivers: they are gone.
pub fn remove_all(root: &Path, owner: &Path) -> std::io::Result<()> {
    Layout::new(root, owner).remove_all()
}

/// Follows the drivers of this node, and tells the cluster of them.
pub fn start(tasks: &Tasks, client: &kube::Client, csi: &Arc<Csi>) -> std::io::Result<()> {
    csi.layout.prepare()?;
    csi.attachments.start(tasks, client);
    registration::start(tasks, client, csi)
}
