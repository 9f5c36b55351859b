//! The pods of this node: one worker per pod, and the table that the node's API reads.

mod admit;
mod adopt;
pub(crate) mod capacity;
mod classes;
mod create;
mod execute;
mod fold;
mod image;
mod mount;
mod report;
mod resize;
mod start;
mod stop;
mod supervisor;
#[cfg(test)]
mod supervisor_tests;
#[cfg(test)]
mod tests;
mod view;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::config::AgentConfig;
use crate::container::resources::Bounds;
use crate::csi::Csi;
use crate::eviction::{Ending, Pressures};
use crate::files::HostResolver;
use crate::probe::ProbeEvent;
use crate::seams::{Exit, Image, Images, Network, Policies, Runtime, Withdrawals};
use crate::server::{Access, ReadLogs};
use crate::state::ProbeKind;
use crate::stats::Stats;

pub use create::remove_dir;
pub(crate) use fold::unknown_exit;
pub use mount::{Mounts, Unmade};
pub use supervisor::{Supervisor, project};
pub use view::{ContainerView, Pods, View};

/// What every worker shares.
pub struct Machine {
    pub config: AgentConfig,
    pub runtime: Arc<dyn Runtime>,
    pub images: Arc<dyn Images>,
    pub network: Arc<dyn Network>,
    pub withdrawals: Arc<dyn Withdrawals>,
    pub policies: Arc<dyn Policies>,
    pub cluster: Arc<dyn Cluster>,
    pub csi: Arc<Csi>,
    pub clock: Clock,
    pub host_resolver: HostResolver,
    pub capacity: capacity::Capacity,
    /// Held while a sandbox with its own users is made.
    pub users_turn: tokio::sync::Mutex<()>,
    /// CPU in thousandths and memory in bytes that pods may use.
    pub allocatable: (i64, i64),
    pub bounds: Bounds,
    /// Bytes that all pods together may use, where that is bounded.
    pub pods_memory: Option<u64>,
    /// What the node is short of.
    pub pressures: watch::Sender<Pressures>,
    /// It takes no more pods, and ends those it has.
    pub shutting_down: watch::Sender<bool>,
    pub pods: Pods,
    /// Which worker hears of which sandbox.
    pub routes: Routes,
    /// Owner of exec, attach and port-forward sessions.
    pub sessions: base_tasks::Tasks,
    pub read_logs: ReadLogs,
    pub access: Access,
    pub stats: Stats,
    pub collector: Collector,
}

impl Machine {
    /// Where the volumes of one pod are.
    pub fn pod_volumes(&self, uid: &str) -> PathBuf {
        self.config.pod_dir(uid).join("volumes")
    }
}

/// What wakes a pod's worker.
#[derive(Debug)]
pub enum Message {
    Updated(Arc<Pod>),
    /// The API no longer has this object.
    Gone,
    /// It has another object that shows this static pod, and knows nothing of it yet.
    Mirrored,
    Exited {
        container: String,
        exit: Exit,
    },
    SandboxLost,
    /// Pods can be connected again.
    NetworkReady,
    /// What it asks of the node beyond what it has is taken for it.
    RoomMade,
    /// It has to go for the node's sake.
    Ended(Ending),
    Probed {
        container: String,
        kind: ProbeKind,
        event: ProbeEvent,
    },
    Image {
        container: String,
        outcome: ImageOutcome,
    },
    /// The postStart hook has ended.
    PostStarted {
        container: String,
        outcome: Result<(), String>,
    },
    /// Traffic is withdrawn and the preStop hook has ended.
    Drained {
        container: String,
        hook: Result<(), String>,
    },
    /// The pod's volumes are made, or one of them could not be, which is told.
    Mounted(Result<Mounts, Unmade>),
    /// No driver holds a volume for the pod any more.
    Released(Result<(), String>),
    /// The version that shows it.
    StatusWritten(Result<Option<u64>, String>),
    Deleted(Result<(), String>),
}

/// The end of looking an image up, with the Events to report in order.
#[derive(Debug)]
pub struct ImageOutcome {
    pub result: Result<Box<Image>, (&'static str, String)>,
}

#[derive(Default)]
pub struct Routes(Mutex<HashMap<String, mpsc::UnboundedSender<Message>>>);

impl Routes {
    pub fn insert(&self, sandbox: &str, worker: mpsc::UnboundedSender<Message>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox.to_owned(), worker);
    }

    pub fn remove(&self, sandbox: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
    }

    /// A sandbox that nobody follows is being removed; its events are of no use.
    pub fn send(&self, sandbox: &str, message: Message) {
        if let Some(worker) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sandbox) {
            // The worker may just have ended.
            let _ = worker.send(message);
        }
    }
}
