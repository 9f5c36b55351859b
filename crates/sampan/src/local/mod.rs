//! `sampan up` and `sampan down`: a throw-away cluster on this host, each of its nodes in a network namespace of its own.
//!
//! ```text
//!   this host                                     namespace sampan-<hash>-n1
//!   bridge sbr<hash>  172.30.x.1/24 ───── veth ── eth0 172.30.x.11   sampan server
//!        │                                        namespace sampan-<hash>-n2
//!        ├───────────────────────────────── veth ── eth0 172.30.x.12   sampan agent
//!        └── to the outside: masqueraded
//! ```
//! Nothing but the processes differs from a cluster of real hosts. Everything is written down in `up.json` before it is made,
//! so that `down` removes whatever there is, however `up` ended.

mod network;
mod process;
mod ready;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use base_sys::route::IpCidr;
use base_tasks::Tasks;
use serde::{Deserialize, Serialize};

use self::network::Network;
use crate::cni::CniOptions;
use crate::config::{Down, IpFamily, Up};
use crate::host::{self, Names};
use crate::join_token::JoinToken;
use crate::pki::{self, Authority};
use crate::{kubeconfig, token};

const PORT: u16 = 6443;
/// The host part of the first node's address.
const FIRST: u128 = 11;
const MOST: u32 = 200;

/// What `up` has made, or was about to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct State {
    /// Addresses of the nodes and of this host among them, one block per family.
    networks: Vec<String>,
    bridge: String,
    table: String,
    nodes: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    name: String,
    /// The network namespace's name, as `ip netns` shows it.
    namespace: String,
    /// This host's end of its link.
    link: String,
    /// One per family, the preferred one first.
    addresses: Vec<IpAddr>,
}

impl State {
    fn plan(directory: &Path, nodes: u32, networks: &[IpCidr]) -> Result<Self> {
        let names = Names::of(directory);
        let short = names.interface_prefix.trim_start_matches("sp").to_owned();
        let nodes = (0..nodes).map(|number| {
            let name = format!("n{}", number + 1);
            let address = |network: &IpCidr| network.nth(FIRST + u128::from(number));
            let addresses: Option<_> = networks.iter().map(address).collect();
            let addresses = addresses.context("--network is too small for so many nodes")?;
            let (namespace, link) = (format!("{}-{name}", names.table), format!("sv{short}{name}"));
            Ok(Member { name, namespace, link, addresses })
        });
        Ok(Self {
            networks: networks.iter().map(ToString::to_string).collect(),
            bridge: format!("sbr{short}"),
            table: format!("{}-up", names.table),
            nodes: nodes.collect::<Result<_>>()?,
        })
    }

    fn network(&self) -> Result<Network> {
        let blocks: Result<_, _> = self.networks.iter().map(|network| network.parse()).collect();
        Ok(Network { blocks: blocks.context("the networks in up.json")?, state: self.clone() })
    }

    fn path(directory: &Path) -> PathBuf {
        directory.join("up.json")
    }

    fn write(&self, directory: &Path) -> Result<()> {
        pki::write_private(&Self::path(directory), &serde_json::to_vec_pretty(self).context("writing up.json")?)
    }

    fn read(directory: &Path) -> Result<Option<Self>> {
        let path = Self::path(directory);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| format!("parsing {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }
}

impl Member {
    fn directory(&self, directory: &Path) -> PathBuf {
        directory.join(&self.name)
    }
}

pub async fn up(options: Up, verbosity: u8) -> Result<()> {
    let started = Instant::now();
    let directory = host::data_dir(&options.data.data_dir)?;
    if State::read(&directory)?.is_some() {
        bail!("there is a cluster in {} already; `sampan down` removes it", directory.display());
    }
    let mut entries = std::fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "images")) {
        bail!("{} holds something else; `up` needs an empty directory", directory.display());
    }
    let state = State::plan(&directory, options.nodes.clamp(1, MOST), &networks(&directory, &options)?)?;
    state.write(&directory)?;
    let made = make(&directory, &state, &options, verbosity, started).await;
    if made.is_err() && !options.keep {
        // The reason is what matters; what cannot be removed is said by the next `down`.
        let _ = remove(&directory, &state);
    }
    made
}

/// The networks of the nodes: those that were chosen, else unused ones.
fn networks(directory: &Path, options: &Up) -> Result<Vec<IpCidr>> {
    let families: &[bool] = match options.ip_family {
        IpFamily::Ipv4 => &[true],
        IpFamily::Ipv6 => &[false],
        IpFamily::Dual => &[true, false],
    };
    let chosen: Vec<IpCidr> = options.network.iter().flat_map(|blocks| blocks.iter()).collect();
    if let Some(other) = chosen.iter().find(|block| !families.contains(&block.is_ipv4())) {
        bail!("--network {other} is not of --ip-family");
    }
    let network = |v4: &bool| match chosen.iter().find(|block| block.is_ipv4() == *v4) {
        Some(block) => Ok(*block),
        None => network::choose(directory, *v4),
    };
    families.iter().map(network).collect()
}

/// Of pods and services, as arguments of the server.
fn ranges(family: IpFamily) -> [&'static str; 4] {
    let (pods, services) = match family {
        IpFamily::Ipv4 => ("10.42.0.0/16", "10.43.0.0/16"),
        IpFamily::Ipv6 => ("fd42::/56", "fd43::/112"),
        IpFamily::Dual => ("10.42.0.0/16,fd42::/56", "10.43.0.0/16,fd43::/112"),
    };
    ["--cluster-cidr", pods, "--service-cidr", services]
}

fn cni_arguments(options: &CniOptions, node: &str) -> Vec<String> {
    let Some(all) = &options.cni_conf_dir else { return Vec::new() };
    let own = all.join(node);
    let conf_dir = if own.is_dir() { own } else { all.clone() };
    let programs: Vec<String> = options.cni_bin_dir.iter().map(|folder| folder.display().to_string()).collect();
    vec!["--cni-conf-dir".into(), conf_dir.display().to_string(), "--cni-bin-dir".into(), programs.join(",")]
}

async fn make(directory: &Path, state: &State, options: &Up, verbosity: u8, started: Instant) -> Result<()> {
    let tasks = Tasks::root("up");
    state.network()?.make().context("making the network")?;
    let Some(first) = state.nodes.first() else { bail!("a cluster has a node at least") };
    // The server will find it, and the others need not wait for it.
    let authority = Authority::open(&first.directory(directory).join("tls"))?;
    let join = JoinToken { authority: authority.trust.hash(), bearer: token::random()? };
    let address = first.addresses.first().context("a node has an address")?;
    let server = format!("https://{}", SocketAddr::new(*address, PORT));
    let images = directory.join("images");
    std::fs::create_dir_all(&images).context("creating the folder of images")?;
    let mut processes = Vec::new();
    for node in &state.nodes {
        let data = node.directory(directory);
        std::fs::create_dir_all(&data).with_context(|| format!("creating {}", data.display()))?;
        // One store of images for all.
        std::os::unix::fs::symlink(&images, data.join("images")).context("sharing the images")?;
        let address = node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut arguments = vec!["--node-name", &node.name, "--node-ip", &address];
        let token = join.to_string();
        let cni = cni_arguments(&options.cni, &node.name);
        if node == first {
            arguments.insert(0, "server");
            arguments.extend(["--token", &join.bearer]);
            arguments.extend(ranges(options.ip_family));
            arguments.extend(options.server.iter().map(String::as_str));
        } else {
            arguments.insert(0, "agent");
            arguments.extend(["--server", &server, "--token", &token]);
        }
        arguments.extend(cni.iter().map(String::as_str));
        let process = process::start(node, &data, &arguments, verbosity);
        processes.push((node, process.with_context(|| format!("starting {}", node.name))?));
    }
    let admin = authority.client("kubernetes-admin", &["system:masters"])?;
    let config = directory.join("kubeconfig.yaml");
    pki::write_private(&config, kubeconfig::render(&server, &authority.trust.pem, &admin).as_bytes())?;
    let mut out = std::io::stdout().lock();
    let ready = |name: &str| {
        writeln!(out, "{name} is ready ({:.2} s)", started.elapsed().as_secs_f64())
            .context("writing to standard output")
    };
    let nodes: Vec<&str> = state.nodes.iter().map(|node| &*node.name).collect();
    tokio::select! {
        ready = ready::wait(&tasks, &server, &authority, &admin, &nodes, ready) => ready?,
        error = process::first_end(directory, processes) => return Err(error),
    }
    writeln!(out, "export KUBECONFIG={}", config.display())?;
    Ok(())
}

pub async fn down(options: Down) -> Result<()> {
    let Ok(directory) = options.data.data_dir.canonicalize() else { return Ok(()) }; // nothing was ever there
    let Some(state) = State::read(&directory)? else {
        bail!("there is no cluster in {}; nothing was removed", directory.display());
    };
    let work = tokio::task::spawn_blocking(move || remove(&directory, &state));
    work.await.context("removing the cluster")?
}

/// Everything, in an order that a second attempt can repeat.
fn remove(directory: &Path, state: &State) -> Result<()> {
    process::stop_all(directory, state)?;
    for node in &state.nodes {
        let data = node.directory(directory);
        if data.exists() && network::exists(node) {
            process::uninstall(node, &data).with_context(|| format!("uninstalling {}", node.name))?;
        }
    }
    state.network()?.remove().context("removing the network")?;
    std::fs::remove_dir_all(directory).with_context(|| format!("removing {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_addresses_the_network() {
        let networks = ["172.30.7.0/24", "fd73::/64"].map(|text| text.parse().expect("a network"));
        let state = State::plan(Path::new("/var/lib/sampan-up"), 200, &networks).expect("planned");
        let last = state.nodes.last().expect("nodes");
        let addresses = ["172.30.7.210", "fd73::d2"].map(|text| text.parse().expect("an address"));
        assert_eq!((&*last.name, &last.addresses[..]), ("n200", &addresses[..]));
        assert!(last.link.len() <= 15 && state.bridge.len() <= 15, "{state:?}");
        let small = "172.30.7.0/28".parse().expect("a network");
        assert!(State::plan(Path::new("/x"), 10, &[small]).is_err());
    }
}
