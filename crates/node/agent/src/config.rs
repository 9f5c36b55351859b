//! What the agent is told once, at the top; nothing below reads the environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base_sys::ip::HostIps;

use crate::collect::ImagePolicy;
use crate::credentials::Providers;
use crate::eviction::EvictionPolicy;
use crate::node::Reserved;
use crate::shutdown::ShutdownPolicy;
use crate::users::UserRanges;

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
    /// What upstream's kubelet calls its root directory: drivers of volumes register and mount below it.
    pub kubelet_dir: PathBuf,
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
    /// When pods are evicted.
    pub eviction: EvictionPolicy,
    /// How long pods have when the node goes down.
    pub shutdown: ShutdownPolicy,
    /// Processes of one pod; `None`: as many as there may be.
    pub pod_max_pids: Option<u32>,
    pub credential_providers: Arc<Providers>,
    pub unsafe_sysctls: UnsafeSysctls,
    pub features: RuntimeFeatures,
    pub versions: Versions,
}

/// What the container runtime can do beside what every one can.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeFeatures {
    pub recursive_read_only_mounts: bool,
    pub supplemental_groups_policy: bool,
    /// Which users pods get that have their own; `None` where there can be no such pods.
    pub users: Option<UserRanges>,
}

impl RuntimeFeatures {
    /// The embedded one's, on a kernel that has user namespaces or has none.
    pub fn embedded(users: UserRanges) -> Self {
        let users = UserRanges::supported().then_some(users);
        Self { recursive_read_only_mounts: true, supplemental_groups_policy: true, users }
    }
}

/// The kernel's settings that pods may have beyond the safe ones.
#[derive(Clone, Debug, Default)]
pub struct UnsafeSysctls(Vec<SysctlPattern>);

/// A name, or the beginning of names before a `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlPattern {
    name: String,
    longer: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither the name of a sysctl nor the beginning of one and a *")]
pub struct BadSysctl(String);

impl UnsafeSysctls {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| name == pattern.name || (pattern.longer && name.starts_with(&pattern.name)))
    }
}

impl FromIterator<SysctlPattern> for UnsafeSysctls {
    fn from_iter<I: IntoIterator<Item = SysctlPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

impl std::str::FromStr for SysctlPattern {
    type Err = BadSysctl;

    fn from_str(text: &str) -> Result<Self, BadSysctl> {
        let (name, longer) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if (name.is_empty() && !longer) || !name.chars().all(plain) {
            return Err(BadSysctl(text.to_owned()));
        }
        Ok(Self { name: api::sysctl::with_dots(name), longer })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// `v1.36.x+sampan`.
    pub kubelet: String,
    /// `sampan://0.1.0`.
    pub container_runtime: String,
}

impl Versions {
    /// What stands before the ids of containers.
    pub(crate) fn runtime_name(&self) -> &str {
        self.container_runtime.split_once("://").map_or(&self.container_runtime, |(name, _)| name)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_settings_are_names_or_beginnings() {
        let allowed: UnsafeSysctls =
            ["kernel.msg*", "net/core/somaxconn"].map(|text| text.parse().unwrap()).into_iter().collect();
        assert!(allowed.has("kernel.msgmax") && allowed.has("net.core.somaxconn"));
        assert!(!allowed.has("kernel.shmmax") && !allowed.has("net.core.somaxconn2"));
        for bad in ["", "a b", "kernel.*.x", "net.*,kernel"] {
            assert_eq!(bad.parse::<SysctlPattern>(), Err(BadSysctl(bad.to_owned())));
        }
    }
}
