//! The command line, parsed to types once; nothing below reads the environment.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::cni::CniOptions;
use crate::runtime::RuntimeOptions;
use base_sys::ip::HostIps;
use base_sys::route::IpCidr;
use clap::{Args, Parser, Subcommand};
use control_controllers::Pool;
use control_resources::NodePortRange;
use node_agent::{Graces, Limits, Reclaims, Reserved, ShutdownPolicy, SysctlPattern};

use crate::balanced::SocketLoadBalancing;

/// Kubernetes for connecting applications with services, in one binary.
///
/// Every option also reads SAMPAN_<OPTION> and the same key in /etc/sampan/config.yaml; the command line wins over the
/// environment, the environment over the file. Exit codes: 0 success, 1 failure, 2 wrong usage.
#[derive(Parser, Debug)]
#[command(name = "sampan", version, propagate_version = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Log more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a control plane and, unless --disable-agent, a node.
    Server(Box<Server>),
    /// Run a node of a cluster whose server is elsewhere.
    Agent(Box<Agent>),
    /// Start a throw-away cluster on this host, each node in a network namespace of its own.
    Up(Box<Up>),
    /// Remove what `up` has made, and the pods with it.
    Down(Down),
    /// Import, pull, list and remove container images of this host.
    Image(Image),
    /// Create, list and delete the tokens by which nodes join; the server that runs on the data directory is asked.
    Token(Token),
    /// Shut this host's node down in good order: it takes no more pods, and ends those it has by their priorities.
    Drain(DataDir),
    /// Stop the pods and remove everything that a data directory's Sampan owns on this host.
    Uninstall(DataDir),
}

#[derive(Args, Debug, Clone)]
pub struct DataDir {
    /// Where all state is kept.
    #[arg(long, global = true, env = "SAMPAN_DATA_DIR", default_value = "/var/lib/sampan", value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct Server {
    #[command(flatten)]
    pub data: DataDir,

    /// Address the API listens on [default: all of this host].
    #[arg(long, env = "SAMPAN_BIND_ADDRESS", value_name = "IP")]
    pub bind_address: Option<IpAddr>,

    /// Port the API listens on.
    #[arg(long, env = "SAMPAN_HTTPS_LISTEN_PORT", default_value_t = 6443, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub https_listen_port: u16,

    #[command(flatten)]
    pub node: NodeOptions,

    /// By which nodes may join, of the form abcdef.0123456789abcdef; <data-dir>/node-token says it with the server's hash
    /// [default: none but those of `sampan token`].
    #[arg(long, env = "SAMPAN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Addresses of pods: a block of either family, or one of each with a comma between them.
    #[arg(long, env = "SAMPAN_CLUSTER_CIDR", default_value = "10.42.0.0/16", value_name = "CIDR[,CIDR]", value_parser = blocks)]
    pub cluster_cidr: Blocks,

    /// Addresses of services, likewise and of the same families; the first is of services that do not say which family they want.
    #[arg(long, env = "SAMPAN_SERVICE_CIDR", default_value = "10.43.0.0/16", value_name = "CIDR[,CIDR]", value_parser = blocks)]
    pub service_cidr: Blocks,

    /// Ports of NodePort services, both ends included.
    #[arg(long, env = "SAMPAN_SERVICE_NODE_PORT_RANGE", default_value = "30000-32767", value_name = "FROM-TO", value_parser = NodePortRange::parse)]
    pub service_node_port_range: NodePortRange,

    /// Addresses of LoadBalancer services, announced on the nodes' network: ranges, networks or single addresses, with
    /// commas between them [default: the nodes' own addresses].
    #[arg(long, env = "SAMPAN_LOAD_BALANCER_POOL", value_name = "RANGES")]
    pub load_balancer_pool: Option<Pool>,

    /// Address of the cluster DNS, inside the service CIDR [default: its tenth address].
    #[arg(long, env = "SAMPAN_CLUSTER_DNS", value_name = "IP")]
    pub cluster_dns: Option<IpAddr>,

    /// Domain of the cluster.
    #[arg(long, env = "SAMPAN_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,

    /// Run the control plane only.
    #[arg(long, env = "SAMPAN_DISABLE_AGENT")]
    pub disable_agent: bool,

    /// Also write the admin's kubeconfig here.
    #[arg(long, env = "SAMPAN_WRITE_KUBECONFIG", value_name = "PATH")]
    pub write_kubeconfig: Option<PathBuf>,

    /// What of which request is recorded: an audit.k8s.io/v1 Policy [default: nothing].
    #[arg(long, env = "SAMPAN_AUDIT_POLICY_FILE", value_name = "PATH", requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,

    /// Where it is recorded, as JSON lines; ten files of 100 MB are kept.
    #[arg(long, env = "SAMPAN_AUDIT_LOG_PATH", value_name = "PATH", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,

    #[command(flatten)]
    pub request_header: RequestHeader,
}

/// Where a throw-away cluster is kept.
#[derive(Args, Debug, Clone)]
pub struct LocalDir {
    /// Where the cluster's state is kept; images in its folder `images` are every node's.
    #[arg(long, env = "SAMPAN_DATA_DIR", default_value = "/var/lib/sampan-up", value_name = "DIR")]
    pub data_dir: PathBuf,
}

#[derive(Args, Debug, Clone)]
pub struct Up {
    #[command(flatten)]
    pub data: LocalDir,

    /// How many nodes; the first one is the server too.
    #[arg(long, env = "SAMPAN_NODES", default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub nodes: u32,

    /// Addresses of the nodes, and of this host among them [default: an unused /24 of 172.30.0.0/16, or /64 of
    /// fd73:616d::/32].
    #[arg(long, env = "SAMPAN_NETWORK", value_name = "CIDR[,CIDR]", value_parser = blocks)]
    pub network: Option<Blocks>,

    /// Families of all addresses.
    #[arg(long, env = "SAMPAN_IP_FAMILY", value_enum, default_value = "ipv4", value_name = "FAMILY")]
    pub ip_family: IpFamily,

    /// Leave what there is when the cluster does not start, to be looked at.
    #[arg(long)]
    pub keep: bool,

    /// Of every node; one that has a folder of its name in --cni-conf-dir reads that one.
    #[command(flatten)]
    pub cni: CniOptions,

    /// More options of the server, after --.
    #[arg(last = true)]
    pub server: Vec<String>,
}

#[derive(Args, Debug, Clone)]
pub struct Down {
    #[command(flatten)]
    pub data: LocalDir,
}

/// What every node is told.
#[derive(Args, Debug, Clone)]
pub struct NodeOptions {
    /// Name of this node [default: the host name].
    #[arg(long, env = "SAMPAN_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of this node, or one of each family with a comma between them [default: those its default routes use].
    #[arg(long, env = "SAMPAN_NODE_IP", value_name = "IP[,IP]")]
    pub node_ip: Option<HostIps>,

    /// Addresses of this node for the outside, such as a NAT router's in front of it [default: none].
    #[arg(long, env = "SAMPAN_NODE_EXTERNAL_IP", value_name = "IPS", value_delimiter = ',')]
    pub node_external_ip: Vec<IpAddr>,

    /// What of this machine is kept for the system: cpu=…,memory=…,ephemeral-storage=…,pid=… [default: nothing].
    #[arg(long, env = "SAMPAN_SYSTEM_RESERVED", default_value = "", hide_default_value = true, value_name = "AMOUNTS", value_parser = Reserved::parse)]
    pub system_reserved: Reserved,

    /// What is kept for this program, likewise [default: nothing].
    #[arg(long, env = "SAMPAN_KUBE_RESERVED", default_value = "", hide_default_value = true, value_name = "AMOUNTS", value_parser = Reserved::parse)]
    pub kube_reserved: Reserved,

    /// How many processes one pod may have [default: as many as there may be].
    #[arg(long, env = "SAMPAN_POD_MAX_PIDS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub pod_max_pids: Option<u32>,

    #[command(flatten)]
    pub images: ImageOptions,

    #[command(flatten)]
    pub eviction: EvictionOptions,

    #[command(flatten)]
    pub shutdown: ShutdownOptions,

    /// Files of pods that this node runs by itself, whether or not there is an API server [default: none].
    #[arg(long, env = "SAMPAN_POD_MANIFEST_PATH", value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,

    /// Where drivers of volumes register and mount, which the manifests of drivers name /var/lib/kubelet
    /// [default: that with the default --data-dir, else <data-dir>/kubelet].
    #[arg(long, env = "SAMPAN_KUBELET_DIR", value_name = "DIR")]
    pub kubelet_dir: Option<PathBuf>,

    /// Where the container runtime is served to crictl and its like [default: <data-dir>/cri.sock].
    #[arg(long, env = "SAMPAN_CRI_SOCKET", value_name = "PATH")]
    pub cri_socket: Option<PathBuf>,

    /// Mirrors and credentials of image registries, in the form of k3s's registries.yaml.
    #[arg(long, env = "SAMPAN_PRIVATE_REGISTRY", default_value = "/etc/sampan/registries.yaml", value_name = "PATH")]
    pub private_registry: PathBuf,

    /// A kubelet's CredentialProviderConfig: programs that give logins for image registries [default: none].
    #[arg(
        long,
        env = "SAMPAN_IMAGE_CREDENTIAL_PROVIDER_CONFIG",
        value_name = "PATH",
        requires = "image_credential_provider_bin_dir"
    )]
    pub image_credential_provider_config: Option<PathBuf>,

    /// Where those programs are.
    #[arg(long, env = "SAMPAN_IMAGE_CREDENTIAL_PROVIDER_BIN_DIR", value_name = "DIR")]
    pub image_credential_provider_bin_dir: Option<PathBuf>,

    /// Kernel settings that pods may have beyond the safe ones: names, or beginnings of names and a `*` [default: none].
    #[arg(long, env = "SAMPAN_ALLOWED_UNSAFE_SYSCTLS", value_name = "NAMES", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<SysctlPattern>,

    /// Whether sockets that connect to a service connect to its endpoint at once: `auto` where the kernel can, `off` where
    /// every packet is to be translated.
    #[arg(long, env = "SAMPAN_SOCKET_LOAD_BALANCING", default_value = "auto", value_name = "WHETHER")]
    pub socket_load_balancing: SocketLoadBalancing,

    #[command(flatten)]
    pub cni: CniOptions,

    #[command(flatten)]
    pub runtime: RuntimeOptions,
}

/// When pulled images that no pod needs are removed; imported ones never are.
#[derive(Args, Debug, Clone)]
pub struct ImageOptions {
    /// Percent of the disk in use from which on unused images are removed.
    #[arg(long, env = "SAMPAN_IMAGE_GC_HIGH_THRESHOLD", default_value_t = 85, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_threshold: u8,

    /// Down to which they are; below the other.
    #[arg(long, env = "SAMPAN_IMAGE_GC_LOW_THRESHOLD", default_value_t = 80, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_threshold: u8,

    /// How long an image is left alone after it came.
    #[arg(long, env = "SAMPAN_MINIMUM_IMAGE_TTL_DURATION", default_value = "2m", value_name = "TIME", value_parser = crate::token::ttl)]
    pub minimum_image_ttl_duration: jiff::SignedDuration,

    /// How long an image may be unused before it is removed whatever room there is; 0: for ever.
    #[arg(long, env = "SAMPAN_IMAGE_MAXIMUM_GC_AGE", default_value = "0", value_name = "TIME", value_parser = crate::token::ttl)]
    pub image_maximum_gc_age: jiff::SignedDuration,
}

/// When pods are ended because the node runs short.
#[derive(Args, Debug, Clone)]
pub struct EvictionOptions {
    /// Of what there must be more than how much, else a pod is evicted at once; signals are memory.available,
    /// nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and pid.available; empty: never.
    #[arg(
        long,
        env = "SAMPAN_EVICTION_HARD",
        value_name = "SIGNAL<AMOUNT,…",
        default_value = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%"
    )]
    pub eviction_hard: Limits,

    /// The same, once it has been so for --eviction-soft-grace-period [default: never].
    #[arg(
        long,
        env = "SAMPAN_EVICTION_SOFT",
        value_name = "SIGNAL<AMOUNT,…",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_soft: Limits,

    /// How long each signal of --eviction-soft may be short: memory.available=1m30s.
    #[arg(
        long,
        env = "SAMPAN_EVICTION_SOFT_GRACE_PERIOD",
        value_name = "SIGNAL=TIME,…",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_soft_grace_period: Graces,

    /// How much is freed beyond a threshold once something is [default: nothing].
    #[arg(
        long,
        env = "SAMPAN_EVICTION_MINIMUM_RECLAIM",
        value_name = "SIGNAL=AMOUNT,…",
        default_value = "",
        hide_default_value = true
    )]
    pub eviction_minimum_reclaim: Reclaims,

    /// At most how many seconds pods have to end that --eviction-soft ends; 0 or less: what they ask for.
    #[arg(
        long,
        env = "SAMPAN_EVICTION_MAX_POD_GRACE_PERIOD",
        value_name = "SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub eviction_max_pod_grace_period: i64,

    /// How long the node's conditions say that something is short after it no longer is.
    #[arg(long, env = "SAMPAN_EVICTION_PRESSURE_TRANSITION_PERIOD", default_value = "5m", value_name = "TIME", value_parser = crate::token::ttl)]
    pub eviction_pressure_transition_period: jiff::SignedDuration,
}

/// What pods have when the node goes down (`sampan drain`).
#[derive(Args, Debug, Clone)]
pub struct ShutdownOptions {
    /// How long all pods have together.
    #[arg(long, env = "SAMPAN_SHUTDOWN_GRACE_PERIOD", default_value = "30s", value_name = "TIME", value_parser = crate::token::ttl)]
    pub shutdown_grace_period: jiff::SignedDuration,

    /// The last part of it, which is the system's own pods'.
    #[arg(long, env = "SAMPAN_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS", default_value = "10s", value_name = "TIME", value_parser = crate::token::ttl)]
    pub shutdown_grace_period_critical_pods: jiff::SignedDuration,

    /// In place of both: how many seconds pods have from which priority on; the lowest go first [default: as above].
    #[arg(
        long,
        env = "SAMPAN_SHUTDOWN_GRACE_PERIOD_BY_POD_PRIORITY",
        value_name = "PRIORITY=SECONDS,…",
        conflicts_with_all = ["shutdown_grace_period", "shutdown_grace_period_critical_pods"]
    )]
    pub shutdown_grace_period_by_pod_priority: Option<ShutdownPolicy>,
}

#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct Agent {
    #[command(flatten)]
    pub data: DataDir,

    /// The cluster's server: https://HOST:6443.
    #[arg(long, env = "SAMPAN_SERVER", value_name = "URL")]
    pub server: String,

    /// What `sampan token create` prints on the server's host; needed once, to join.
    #[arg(long, env = "SAMPAN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    #[command(flatten)]
    pub node: NodeOptions,
}

/// Proxies in front of the API that have authenticated their callers.
#[derive(Args, Debug, Clone)]
pub struct RequestHeader {
    /// Authority of the certificates of proxies, which say in headers for whom they ask [default: none is believed].
    #[arg(long, env = "SAMPAN_REQUESTHEADER_CLIENT_CA_FILE", value_name = "PATH")]
    pub requestheader_client_ca_file: Option<PathBuf>,

    /// Common names of proxies' certificates [default: every one that the authority signs].
    #[arg(
        long,
        env = "SAMPAN_REQUESTHEADER_ALLOWED_NAMES",
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "requestheader_client_ca_file"
    )]
    pub requestheader_allowed_names: Vec<String>,

    /// Headers that say the user; the first that has a value counts.
    #[arg(
        long,
        env = "SAMPAN_REQUESTHEADER_USERNAME_HEADERS",
        value_name = "HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-User"
    )]
    pub requestheader_username_headers: Vec<String>,

    /// Headers that say the user's UID; the first that has a value counts.
    #[arg(
        long,
        env = "SAMPAN_REQUESTHEADER_UID_HEADERS",
        value_name = "HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Uid"
    )]
    pub requestheader_uid_headers: Vec<String>,

    /// Headers that say the user's groups.
    #[arg(
        long,
        env = "SAMPAN_REQUESTHEADER_GROUP_HEADERS",
        value_name = "HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Group"
    )]
    pub requestheader_group_headers: Vec<String>,

    /// What headers begin with that say more of the user.
    #[arg(
        long,
        env = "SAMPAN_REQUESTHEADER_EXTRA_HEADERS_PREFIX",
        value_name = "PREFIXES",
        value_delimiter = ',',
        default_value = "X-Remote-Extra-"
    )]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Image {
    #[command(flatten)]
    pub data: DataDir,

    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Subcommand, Debug)]
pub enum ImageCommand {
    /// Import an archive made by `docker save` or an OCI layout archive.
    Import { archive: PathBuf },
    /// Pull an image from its registry.
    Pull {
        reference: String,
        #[arg(
            long,
            env = "SAMPAN_PRIVATE_REGISTRY",
            default_value = "/etc/sampan/registries.yaml",
            value_name = "PATH"
        )]
        private_registry: PathBuf,
    },
    /// List images.
    Ls,
    /// Remove an image by its reference.
    Rm { reference: String },
}

#[derive(Args, Debug)]
pub struct Token {
    #[command(flatten)]
    pub data: DataDir,

    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Create a token and print it.
    Create(NewToken),
    /// List the tokens.
    List,
    /// Delete tokens.
    Delete {
        /// Whole, or their first six characters alone.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub struct NewToken {
    /// Of the form abcdef.0123456789abcdef [default: a random one].
    pub token: Option<String>,

    /// How long it is to hold, such as 24h; 0: for ever.
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = crate::token::ttl)]
    pub ttl: jiff::SignedDuration,

    /// What it is for.
    #[arg(long)]
    pub description: Option<String>,

    /// What it may be used for.
    #[arg(long, default_value = "signing,authentication", value_delimiter = ',')]
    pub usages: Vec<String>,

    /// Groups of whoever uses it.
    #[arg(long, default_value = api::bootstrap_token::JOINING, value_delimiter = ',')]
    pub groups: Vec<String>,
}

/// The families of a throw-away cluster.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpFamily {
    #[default]
    Ipv4,
    Ipv6,
    /// Both, IPv4 preferred.
    Dual,
}

/// Where pods or services get their addresses: one block, or one of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks(Vec<IpCidr>);

impl Blocks {
    /// The preferred family's first.
    pub fn iter(&self) -> impl Iterator<Item = IpCidr> + use<'_> {
        self.0.iter().copied()
    }
}

impl std::fmt::Display for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts: Vec<String> = self.iter().map(|block| block.to_string()).collect();
        f.write_str(&texts.join(","))
    }
}

pub(crate) fn blocks(text: &str) -> Result<Blocks, String> {
    let blocks = text.split(',').map(block).collect::<Result<Vec<_>, _>>()?;
    match blocks[..] {
        [_] => Ok(Blocks(blocks)),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(Blocks(blocks)),
        _ => Err("expected one block, or one of each family".to_owned()),
    }
}

/// A network that pods or services can be numbered from.
fn block(text: &str) -> Result<IpCidr, String> {
    let cidr: IpCidr = text.parse().map_err(|error| format!("{error}"))?;
    let prefixes = if cidr.is_ipv4() { 8..=28 } else { 32..=120 };
    if !prefixes.contains(&cidr.prefix()) {
        return Err(format!("the prefix must be between {} and {}", prefixes.start(), prefixes.end()));
    }
    if cidr.to_string() != text {
        return Err(format!("bits are set beyond the prefix; did you mean {cidr}?"));
    }
    Ok(cidr)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn blocks_of_both_families_in_either_order() {
        let of = |text| blocks(text).map(|blocks| blocks.to_string());
        for good in ["10.43.0.0/16", "fd43::/108", "10.43.0.0/16,fd43::/108", "fd43::/108,10.43.0.0/16"] {
            assert_eq!(of(good), Ok(good.to_owned()));
        }
        for bad in ["10.43.0.0/16,", "10.43.0.0/16,10.44.0.0/16", "fd43::1/108,10.43.0.0/16", "fd43::/24", "fd43::/124"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(of("10.43.0.0/16,fd43::/108,fd44::/108").is_err());
    }

    #[test]
    fn bad_networks_are_explained() {
        for bad in ["", "10.43.0.0", "10.43.0.1/16", "10.43.0.0/40", "10.43.0.0/31", "x/16", "fd00::"] {
            assert!(block(bad).is_err(), "{bad}");
        }
    }
}
