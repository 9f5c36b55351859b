//! What the agent asks for: plain data, written to disk as JSON so that the shim, the helpers and a later
//! agent read the very same thing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a runtime keeps its state and what it may call its own on this host.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Sandboxes live below this directory; it is created with mode 0700.
    pub root: PathBuf,
    /// Name of the cgroup below every hierarchy's root that holds all pods and shims of this data directory,
    /// e.g. `sampan-3f2a`.
    pub cgroup_root: String,
    /// The executable that answers [`crate::reexec`]; normally our own.
    pub binary: PathBuf,
}

impl RuntimeConfig {
    /// A runtime whose shims are re-executions of the running binary.
    pub fn new(root: impl Into<PathBuf>, cgroup_root: impl Into<String>) -> Self {
        Self { root: root.into(), cgroup_root: cgroup_root.into(), binary: PathBuf::from("/proc/self/exe") }
    }
}

/// One pod: the namespaces, names and limits that its containers share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// Unique on this node for ever (pod uid and attempt); letters, digits, `-`, `_` and `.` only.
    pub id: String,
    pub namespace: String,
    pub name: String,
    /// The cgroup below the data directory's that holds the pod's, e.g. `kubepods/burstable`; empty: the data directory's own.
    pub cgroup_parent: String,
    /// The pod's uid; names its cgroup `pod<uid>`.
    pub uid: String,
    pub attempt: u32,
    /// Set in the pod's UTS namespace; ignored with `host_network`, where the node's own name is kept.
    pub hostname: String,
    /// Use the network (and UTS) namespace of the process that called `create_sandbox`.
    pub host_network: bool,
    /// Use the host's System V objects, message queues and `/dev/shm`.
    pub host_ipc: bool,
    pub processes: Processes,
    /// In a user namespace of its own, which owns its other namespaces; `None`: the node's users.
    pub users: Option<IdRange>,
    /// Whole contents of `/etc/resolv.conf` in every container; empty: no such mount.
    pub resolv_conf: String,
    /// Whole contents of `/etc/hosts` in every container; empty: no such mount.
    pub hosts: String,
    /// Limits of the pod's own cgroup, above those of its containers.
    pub resources: Resources,
    pub labels: BTreeMap<String, String>,
    /// Namespaced kernel parameters (`net.*`, `kernel.shm*`, …) by dotted name.
    pub sysctls: BTreeMap<String, String>,
}

/// Which processes a pod's containers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Processes {
    /// Each container its own.
    #[default]
    Own,
    /// Each those of all the pod's.
    Shared,
    /// Each the host's.
    Host,
}

/// The users and groups of a namespace: those from 0 to `length` inside are those from `first` on outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub first: u32,
    pub length: u32,
}

/// Limits of one cgroup. `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// cgroup v1 scale, 2 to 262144; converted for v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period.
    pub cpu_quota: Option<i64>,
    /// Microseconds; default 100 000.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    pub pids_limit: Option<i64>,
    /// Bytes by the size of the page in bytes. A size that the host cannot bound is an error only where it is more than 0.
    pub huge_pages: BTreeMap<u64, u64>,
    /// −1000 to 1000; of containers only. Clamped, with a warning, where the kernel refuses to lower it.
    pub oom_score_adj: Option<i32>,
}

/// Who runs the process. Numbers win over `name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The image's `user[:group]`, names or numbers, resolved in the container's own `/etc/passwd` and
    /// `/etc/group`; empty means root.
    pub name: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Added to the groups that `/etc/group` gives the user.
    pub additional_gids: Vec<u32>,
    /// Its `/etc/group` gives the user no groups beyond the primary one.
    pub only_these_groups: bool,
}

/// A bind mount from the host (volumes, the termination log).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub readonly: bool,
    /// With `readonly`: so is what is mounted below it.
    pub recursive: bool,
    pub propagation: Propagation,
}

/// Whether mounts made below a bind mount appear on its other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// Changes to the default capability set: names with or without `CAP_`, or `ALL`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique on this node for ever; same alphabet as [`SandboxSpec::id`].
    pub id: String,
    /// The name in the pod's spec.
    pub name: String,
    pub attempt: u32,
    /// As the user wrote it; only carried.
    pub image: String,
    /// The image's unpacked layers, topmost first (overlay `lowerdir` order); at least one.
    pub layers: Vec<PathBuf>,
    /// Command and arguments; the first is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value`; a later entry wins. A default `PATH` and `HOME` are added when missing.
    pub env: Vec<String>,
    /// Created when missing; empty means `/`.
    pub cwd: String,
    pub user: User,
    pub tty: bool,
    /// Keep a standard input open for `attach`; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close the standard input when the first attached client closes its own.
    pub stdin_once: bool,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    /// The CRI log; its directory is made when missing. `None`: output goes to attached clients only.
    pub log_path: Option<PathBuf>,
    /// `None`: the log grows without bound.
    pub log_limit: Option<LogLimit>,
    /// The image's stop signal (`SIGQUIT`, `QUIT` or `3`), only carried: the agent sends it.
    pub stop_signal: Option<String>,
    pub capabilities: Capabilities,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub no_new_privileges: bool,
    /// `None`, and for privileged containers always: unconfined.
    pub seccomp: Option<Seccomp>,
    /// The running container of the same pod whose processes this one is to live among.
    pub processes_of: Option<String>,
    /// Hide nothing below `/proc` and `/sys`.
    pub unmasked: bool,
    pub labels: BTreeMap<String, String>,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Those of the default profile, with what its capabilities open.
    RuntimeDefault,
    /// As [`crate::seccomp::parse`] gives it.
    Profile(serde_json::Value),
}

/// What a container's log may take of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimit {
    /// Of one file.
    pub bytes: u64,
    /// Files that are kept, with the one that is written; older ones are `<log_path>.<number>`.
    pub files: u32,
}

/// A further process in a running container, with the container's own user, capabilities and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    /// Never given with `tty`: a terminal has one output.
    pub stderr: bool,
}
