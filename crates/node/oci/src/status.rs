//! What the agent is told: the state of sandboxes and containers, and the events that change it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerSpec, SandboxSpec};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    /// Stopped, or its shim is gone; it can only be removed.
    NotReady,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStatus {
    pub id: String,
    /// A path that opens the pod's network namespace while the sandbox exists.
    pub netns: PathBuf,
    pub created_at: Timestamp,
    pub state: SandboxState,
    pub spec: SandboxSpec,
    pub containers: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    pub id: String,
    pub sandbox: String,
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub state: ContainerState,
    pub created_at: Timestamp,
    pub log_path: Option<PathBuf>,
    pub labels: BTreeMap<String, String>,
    pub spec: ContainerSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running {
        /// In the node's pid namespace.
        pid: i32,
        started_at: Timestamp,
    },
    Exited(ExitStatus),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// 128 + signal when a signal ended it, 128 when it could not be started.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// The kernel killed a process of this container for memory.
    pub oom_killed: bool,
    /// `None` when it never ran.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// `StartError` (with `message`), `ContainerStatusUnknown` when the shim was lost before the exit was seen.
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// Who a container's first process was started as, in the pod's own numbers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessUser {
    pub uid: u32,
    pub gid: u32,
    /// With the primary one.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    ContainerExited {
        sandbox: String,
        container: String,
        exit_code: i32,
        signal: Option<i32>,
        oom_killed: bool,
        finished_at: Timestamp,
    },
    /// The shim died on its own; its containers have been killed and recorded as exited.
    ShimLost { sandbox: String },
}
