//! What the agent is told once, at the top; nothing below reads the environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base_sys::ip::HostIps;

use crate::collect::ImagePolicy;
use crate::credentials::Providers;
use crate::node::Reserved;

#[derive(Clone)]
pub struct AgentConfig {
    pub node_name: String,
    pub node_ips: HostIps,
    /// The node's blocks of pod addresses, one per family, once it has them.
    pub node_cidrs: Vec<String>,
    /// Its addresses for the outside.
    pub external_ips: Vec<IpAddr>,
    /// The agent's own part of the data directory: pod volumes, logs and generated files live below it.
    pub data_dir: PathBuf,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    /// The host's resolver configuration, for `dnsPolicy: Default` and the search list.
    pub resolv_conf: PathBuf,
    /// Serving TLS of the node API; it must require and verify client certificates.
    pub tls: Arc<rustls::ServerConfig>,
    /// Where static pods' files are, if anywhere.
    pub pod_manifest_path: Option<PathBuf>,
    pub kubelet_port: u16,
    pub max_pods: u32,
    /// What of the machine is not for pods.
    pub reserved: Reserved,
    /// When unused images go.
    pub images: ImagePolicy,
    /// Processes of one pod; `None`: as many as there may be.
    pub pod_max_pids: Option<u32>,
    pub credential_providers: Arc<Providers>,
    pub versions: Versions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// `v1.36.x+sampan`.
    pub kubelet: String,
    /// `sampan://0.1.0`.
    pub container_runtime: String,
}

impl AgentConfig {
    /// Volumes and generated files of one pod.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// Local volumes that outlive their pods.
    pub(crate) fn storage_dir(&self) -> PathBuf {
        self.data_dir.join("storage")
    }

    /// Where the operator puts seccomp profiles of type Localhost.
    pub(crate) fn seccomp_dir(&self) -> PathBuf {
        self.data_dir.join("seccomp")
    }

    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }
}
