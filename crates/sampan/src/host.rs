//! What this host says about itself, and the names under which a data directory owns things on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Names derived from the data directory, so that several Sampans share a host without meeting.
#[derive(Clone, Debug)]
pub struct Names {
    /// Prefix of network interfaces; short, as the kernel allows 15 bytes.
    pub interface_prefix: String,
    /// The nftables table.
    pub table: String,
    /// The link of the tunnel to other nodes; it must not look like a pod's.
    pub tunnel: String,
    /// The nftables table of the network policies.
    pub policy_table: String,
    /// Below each cgroup hierarchy's root.
    pub cgroup: String,
}

impl Names {
    /// `data_dir` is canonical: two spellings of one directory must give one set of names.
    pub fn of(data_dir: &Path) -> Self {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self {
            interface_prefix: format!("sp{}", &hash[..4]),
            table: format!("sampan-{hash}"),
            tunnel: format!("vx-sp{}", &hash[..4]),
            policy_table: format!("sampan-{hash}-policy"),
            cgroup: format!("sampan-{hash}"),
        }
    }
}

/// Makes the data directory (mode 0700) where it is missing, and spells it canonically.
pub fn data_dir(path: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating the data directory {}", path.display()))?;
    path.canonicalize().with_context(|| format!("opening the data directory {}", path.display()))
}

/// The name that was chosen for this node, else the host's.
pub fn chosen_node_name(chosen: Option<&str>) -> Result<String> {
    let Some(name) = chosen else { return node_name() };
    let problems = base_meta::names::dns1123_subdomain(name);
    if !problems.is_empty() {
        bail!("--node-name {name:?}: {}", problems.join("; "));
    }
    Ok(name.to_owned())
}

/// The address that was chosen for this node, else the host's.
pub fn chosen_node_ip(chosen: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
    match chosen {
        Some(address) if address.is_loopback() => {
            bail!("--node-ip {address} is a loopback address: pods could not reach the node by it")
        }
        Some(address) => Ok(address),
        None => node_ip(),
    }
}

/// The host's name, in the form that a Node's name needs.
fn node_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("reading the host name")?;
    let name = name.to_string_lossy().to_lowercase();
    let problems = base_meta::names::dns1123_subdomain(&name);
    if !problems.is_empty() {
        bail!("the host name {name:?} cannot name a node ({}); use --node-name", problems.join("; "));
    }
    Ok(name)
}

/// The address this host uses towards others, else any address that is not loopback.
fn node_ip() -> Result<Ipv4Addr> {
    // Connecting a datagram socket sends nothing; it asks the routing table for a source address.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("opening a socket")?;
    if socket.connect(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9))).is_ok()
        && let Ok(SocketAddr::V4(local)) = socket.local_addr()
        && !local.ip().is_loopback()
    {
        return Ok(*local.ip());
    }
    let addresses = nix::ifaddrs::getifaddrs().context("listing this host's addresses")?;
    addresses
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| address.ip()))
        .find(|address| !address.is_loopback() && !address.is_link_local())
        .context("this host has no address besides loopback; use --node-ip")
}

/// The IPv6 address this host uses towards others, else any that is neither loopback nor of one link.
pub fn node_ip6() -> Option<Ipv6Addr> {
    let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let route = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((documentation, 9)).ok()?;
        let SocketAddr::V6(local) = socket.local_addr().ok()? else { return None };
        Some(*local.ip()).filter(|address| !address.is_loopback())
    };
    let any = || {
        let addresses = nix::ifaddrs::getifaddrs().ok()?;
        addresses
            .filter_map(|interface| interface.address?.as_sockaddr_in6().map(|address| address.ip()))
            .find(|address| !address.is_loopback() && !address.is_unicast_link_local())
    };
    route().or_else(any)
}

/// All of this host's own IPv4 addresses, for the API's certificate.
pub fn addresses() -> Vec<IpAddr> {
    nix::ifaddrs::getifaddrs().map_or_else(
        |_| Vec::new(),
        |all| {
            all.filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| IpAddr::V4(address.ip())))
                .collect()
        },
    )
}

/// The resolver configuration that pods and the cluster DNS take over: the host's, or, where that only names a resolver
/// on the host's loopback (systemd-resolved), the list that this resolver asks.
pub fn resolv_conf() -> PathBuf {
    let [host, behind] = [Path::new("/etc/resolv.conf"), Path::new("/run/systemd/resolve/resolv.conf")];
    let text = std::fs::read_to_string(host).unwrap_or_default();
    if only_loopback(&text) && behind.exists() { behind.to_owned() } else { host.to_owned() }
}

fn only_loopback(resolv_conf: &str) -> bool {
    let mut servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).peekable();
    servers.peek().is_some()
        && servers.all(|server| server.trim().parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_not_reached_by_a_loopback_address() {
        let refused = chosen_node_ip(Some(Ipv4Addr::LOCALHOST)).expect_err("refused").to_string();
        assert!(refused.starts_with("--node-ip 127.0.0.1 is a loopback address"), "{refused}");
        let refused = chosen_node_name(Some("A_B")).expect_err("refused").to_string();
        assert!(refused.starts_with("--node-name \"A_B\": "), "{refused}");
    }

    #[test]
    fn names_differ_by_data_directory_and_fit_the_kernel() {
        let (one, two) = (Names::of(Path::new("/var/lib/one")), Names::of(Path::new("/var/lib/two")));
        assert_ne!(one.table, two.table);
        assert_ne!(one.interface_prefix, two.interface_prefix);
        assert!(one.interface_prefix.len() <= 6);
    }

    #[test]
    fn a_resolver_on_the_loopback_is_of_no_use_to_pods() {
        assert!(only_loopback("# stub\nnameserver 127.0.0.53\noptions edns0\n"));
        assert!(!only_loopback("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"));
        assert!(!only_loopback(""));
    }
}
