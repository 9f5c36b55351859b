//! The seams between the pod logic and the machine: container runtime, images, network, withdrawal.
//!
//! Everything above this file is tested with the fakes behind these traits; the adapters below [`crate::adapter`] are
//! the only code that names `node_oci`, `node_images` and `net_podnet`. The shape follows CRI, so that a CRI client
//! can be the second implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

/// Label keys of sandboxes and containers, the same as upstream's kubelet puts on CRI objects.
pub mod label {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// Which instance of the container this is: its restart count.
    pub const ATTEMPT: &str = "io.kubernetes.container.restartCount";
    /// Hash of the container's spec, to recognise after a restart what was started from what.
    pub const SPEC_HASH: &str = "io.kubernetes.container.hash";
    pub const IMAGE: &str = "sampan.io/image";
    pub const IMAGE_ID: &str = "sampan.io/image-id";
    pub const STOP_SIGNAL: &str = "sampan.io/stop-signal";
    /// What a client of the runtime's own socket has said of its sandbox or container: it is that client's, not a pod's.
    pub const FOREIGN: &str = "sampan.io/cri";
}

/// A failure at a seam: what was tried, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {subject}")]
pub struct SeamError {
    pub operation: &'static str,
    pub subject: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl SeamError {
    pub fn new(
        operation: &'static str,
        subject: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation, subject: subject.into(), source: source.into() }
    }
}

/// The whole chain of an error on one line, for an Event or a status message.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Go's words for the common causes; tools match on them.
pub fn words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        ErrorKind::HostUnreachable => "connect: no route to host".into(),
        ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        ErrorKind::AddrNotAvailable => "connect: cannot assign requested address".into(),
        ErrorKind::ConnectionReset => "read: connection reset by peer".into(),
        _ => error.to_string(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// A name for it that no other had; a runtime may give it another.
    pub id: String,
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    pub host_network: bool,
    pub host_ipc: bool,
    pub processes: Processes,
    /// Of a pod in a user namespace of its own.
    pub users: Option<IdRange>,
    pub sysctls: BTreeMap<String, String>,
    /// The cgroup that holds the pod's; see [`Runtime::limit_group`].
    pub cgroup_parent: String,
    /// Of the pod's own cgroup.
    pub resources: Resources,
    /// Whether a container of it may be privileged.
    pub privileged: bool,
    /// What holds all of its containers' logs.
    pub log_directory: PathBuf,
}

/// Which processes the containers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Processes {
    /// Each its own.
    #[default]
    Own,
    /// Each those of all the pod's.
    Shared,
    /// Each the node's.
    Host,
}

/// Users and groups of the node, which are those from 0 on in a pod's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub length: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    /// What the spec said.
    pub users: Option<IdRange>,
    /// `None` when the pod uses the host's network.
    pub netns: Option<PathBuf>,
    /// Whether its shim lives and its namespaces are pinned.
    pub ready: bool,
    pub created_at: Timestamp,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    pub state: ContainerState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running { started_at: Timestamp },
    Exited(Exit),
}

/// Who the first process of a container was started as, by the container's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUser {
    pub uid: u32,
    pub gid: u32,
    /// With the primary one.
    pub groups: Vec<u32>,
}

/// How one instance of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    /// `None` when it never ran.
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// Overrides what the exit code says (`StartError`, `ContainerStatusUnknown`).
    pub reason: Option<String>,
    pub message: String,
}

impl Exit {
    pub fn reason(&self) -> &str {
        match self.reason.as_deref() {
            Some(reason) => reason,
            None if self.oom_killed => "OOMKilled",
            None if self.exit_code == 0 => "Completed",
            None => "Error",
        }
    }
}

impl Sandbox {
    /// Whether a client of the runtime's own socket made it: no pod's, and nobody's but that client's to remove.
    pub fn is_foreign(&self) -> bool {
        self.labels.contains_key(label::FOREIGN)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub access: Access,
    pub propagation: Propagation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    /// What is mounted below it may be written to.
    ReadOnly,
    /// With all that is mounted below it.
    ReadOnlyRecursive,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `cpu.shares` in cgroup v1 units, 2 to 262144.
    pub cpu_shares: u64,
    /// Microseconds per [`Self::cpu_period`]; `None` is unlimited.
    pub cpu_quota: Option<i64>,
    pub cpu_period: u64,
    /// Bytes; `None` is unlimited.
    pub memory_limit: Option<i64>,
    /// Processes; `None` is unlimited.
    pub pids_limit: Option<i64>,
    /// Bytes by the size of the page in bytes.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Of containers.
    pub oom_score_adj: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `uid`, `uid:gid`, `name` or `name:group` as the image writes it; names are looked up in the container's own
    /// /etc/passwd. Empty is root.
    pub image_user: String,
    /// Win over the image's.
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    /// Not those that the image's /etc/group gives the user.
    pub only_these_groups: bool,
    pub privileged: bool,
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub no_new_privileges: bool,
    pub read_only_rootfs: bool,
    /// `None` is unconfined.
    pub seccomp: Option<Seccomp>,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    RuntimeDefault,
    /// A file of the node's, in the form of the OCI runtime specification.
    Profile(serde_json::Value),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// As [`SandboxSpec::id`].
    pub id: String,
    /// The name in the pod's spec, which instance this is, and the image as the user wrote it.
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Lower directories of the root file system, topmost first.
    pub layers: Vec<PathBuf>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    pub mounts: Vec<Mount>,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    /// Written by the runtime in CRI's log format.
    pub log_path: PathBuf,
    pub security: Security,
    pub resources: Resources,
    /// The container of the same sandbox whose processes this one is to see; it must run.
    pub processes_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    pub args: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Terminal size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
pub type Connection = Box<dyn Duplex>;
/// The exit code of the process, once it ended.
pub type ExitFuture = Pin<Box<dyn Future<Output = Result<i32, SeamError>> + Send>>;

/// The streams of a process in a container. Dropping it detaches; an exec'd process is killed.
pub struct Streams {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub resize: mpsc::UnboundedSender<TerminalSize>,
    pub exit: ExitFuture,
}

/// What the runtime reports by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    ContainerExited {
        sandbox: String,
        container: String,
        exit: Exit,
    },
    /// The sandbox's shim is gone and every container with it.
    SandboxLost {
        sandbox: String,
    },
}

/// What something has used of the processors and the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU time since it began.
    pub cpu: u64,
    /// Bytes, with the page cache.
    pub memory: u64,
    /// Bytes that cannot be had back at once.
    pub working_set: u64,
    /// Bytes of anonymous memory.
    pub anonymous: u64,
    /// Bytes.
    pub swap: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub processes: u64,
}

/// What a sandbox and its running containers use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxUsage {
    pub id: String,
    pub usage: Usage,
    /// Empty with the host's network.
    pub network: Vec<Interface>,
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    pub id: String,
    pub usage: Usage,
    /// Of its writable layer, and of its logs; where it was asked for.
    pub disk: Option<(DiskUsage, DiskUsage)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

/// What has passed through a network interface, the loopback apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

/// Of which sandboxes to count what their containers have written: that takes a walk through their files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    Nothing,
    Everything,
    Only(BTreeSet<String>),
}

impl Walk {
    pub fn has(&self, sandbox: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Only(sandboxes) => sandboxes.contains(sandbox),
        }
    }
}

/// The container runtime. Calls are idempotent where CRI's are: stopping or removing what is gone succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    async fn list(&self) -> Result<Vec<Sandbox>, SeamError>;
    async fn create_sandbox(&self, spec: SandboxSpec) -> Result<Sandbox, SeamError>;
    async fn stop_sandbox(&self, sandbox: &str) -> Result<(), SeamError>;
    async fn remove_sandbox(&self, sandbox: &str) -> Result<(), SeamError>;
    /// The id that the container has.
    async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<String, SeamError>;
    /// Returns when the process has been executed.
    async fn start_container(&self, container: &str) -> Result<Timestamp, SeamError>;
    /// Who it runs as, once it was started; `None` where that is not known.
    async fn container_user(&self, _container: &str) -> Result<Option<ContainerUser>, SeamError> {
        Ok(None)
    }
    async fn signal_container(&self, container: &str, signal: i32) -> Result<(), SeamError>;
    async fn remove_container(&self, container: &str) -> Result<(), SeamError>;
    /// Changes the bounds of a running container, all but the OOM score. Memory below what it uses is refused.
    async fn resize_container(&self, container: &str, resources: &Resources) -> Result<(), SeamError>;
    /// The same of the pod's own cgroup.
    async fn resize_sandbox(&self, sandbox: &str, resources: &Resources) -> Result<(), SeamError>;
    async fn exec(&self, container: &str, spec: ExecSpec) -> Result<Streams, SeamError>;
    /// `seen` is how many bytes of the container's log the client has read: of what was printed before it came, it is
    /// given the rest.
    async fn attach(&self, container: &str, seen: u64) -> Result<Streams, SeamError>;
    /// Connects to a port of the sandbox's loopback, as what runs in it would.
    async fn dial(&self, sandbox: &str, port: u16) -> Result<Connection, SeamError>;
    /// Whether every one of the TCP ports has a listener in the sandbox; found out without a connection.
    async fn listens(&self, sandbox: &str, ports: &[u16]) -> Result<bool, SeamError>;
    /// Bounds a cgroup that pods share, which it makes; by its path below our own.
    async fn limit_group(&self, group: &str, resources: &Resources) -> Result<(), SeamError>;
    /// What a cgroup that pods share uses; `None` while there is no such.
    async fn group_usage(&self, group: &str) -> Result<Option<Usage>, SeamError>;
    /// What every sandbox uses.
    async fn usage(&self, walk: Walk) -> Result<Vec<SandboxUsage>, SeamError>;
}

/// What is known of a container beyond its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    pub created_at: Timestamp,
    /// In the node's pid namespace, while it runs.
    pub pid: Option<i32>,
    pub log_path: Option<PathBuf>,
    pub mounts: Vec<Mount>,
    pub resources: Resources,
    /// All that it was made from, in the runtime's own words.
    pub spec: serde_json::Value,
}

/// A runtime that others can be served by: our own. See [`crate::cri_server`].
#[async_trait]
pub trait Embedded: Runtime {
    async fn inspect(&self, container: &str) -> Result<Inspection, SeamError>;
    /// Resolves once the container does not run (any more).
    async fn ended(&self, container: &str) -> Result<(), SeamError>;
}

/// An image on this node, ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// Of its configuration, `sha256:…`.
    pub digest: String,
    /// Complete ones, with their tags.
    pub names: Vec<String>,
    /// `repository@digest`.
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    pub layers: Vec<PathBuf>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: Option<String>,
    /// Put there by the operator (`sampan image import`), not by a pull.
    pub imported: bool,
}

/// Name and password for a registry.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// With what is wrong with it.
    #[error("{0}")]
    InvalidReference(String),
    /// No registry could be spoken to at all; an imported image may stand in.
    #[error(transparent)]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// The registry answered, and not with the image.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Every image on this node.
    async fn list(&self) -> Vec<Image>;
    /// Removes an image by its id, under whatever names. No container may run from it.
    async fn remove(&self, id: &str) -> Result<(), SeamError>;
    /// The image of that reference, if it is on this node. `Err` when the reference cannot be parsed.
    async fn get(&self, reference: &str) -> Result<Option<Image>, PullError>;
    /// `credentials` are tried in order, after anonymous configuration of the node's own. With a `stand_in`, a registry
    /// that does not answer at once is soon given up, and not asked again right after.
    async fn pull(
        &self,
        reference: &str,
        credentials: &[Credentials],
        stand_in: Option<&Image>,
    ) -> Result<Image, PullError>;
}

/// What a pod's resolver asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// A sandbox that is to be connected.
#[derive(Clone, Copy, Debug)]
pub struct Wiring<'a> {
    pub sandbox: &'a str,
    pub netns: &'a Path,
    pub pod: &'a Pod,
    pub dns: &'a Dns,
}

#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Connects the sandbox; the same sandbox gets the same address again. First the primary address.
    async fn attach(&self, wiring: Wiring<'_>) -> Result<Vec<IpAddr>, SeamError>;
    async fn detach(&self, sandbox: &str) -> Result<(), SeamError>;
    /// Frees what belongs to sandboxes that are not in `live`.
    async fn reconcile(&self, live: &[String]) -> Result<(), SeamError>;
    /// Why no pod can be connected, while that is so: the node is not ready then.
    fn trouble(&self) -> watch::Receiver<Option<String>>;
}

/// Keeps a pod's traffic to what NetworkPolicies allow.
#[async_trait]
pub trait Policies: Send + Sync + 'static {
    /// Resolves once they are in force for the pod's addresses; at once where there are none.
    async fn programmed(&self, pod: &Pod, ips: &[IpAddr]);
}

/// Tells when traffic has been steered away from a pod.
#[async_trait]
pub trait Withdrawals: Send + Sync + 'static {
    /// Resolves once no local data plane slot leads to `pod_ip`.
    async fn withdrawn(&self, pod_ip: IpAddr);
    /// The revision of EndpointSlices that the local data plane follows.
    fn programmed(&self) -> watch::Receiver<u64>;
}
