//! What this host says about itself, and the names under which a data directory owns things on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base_sys::ip::HostIps;
use base_sys::route::IpCidr;
use nix::sys::socket::SockaddrStorage;
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

/// The addresses of this node, of the families that the cluster's pods have: those that were chosen, else the host's.
/// The second family's may be missing.
pub fn node_ips(chosen: Option<HostIps>, pods: &[IpCidr]) -> Result<HostIps> {
    if let Some(address) = chosen.iter().flat_map(HostIps::iter).find(IpAddr::is_loopback) {
        bail!("--node-ip {address} is a loopback address: pods could not reach the node by it")
    }
    let mut families = pods.iter().map(|block| {
        let chosen = chosen.and_then(|chosen| chosen.beside(block.network()));
        chosen.or_else(|| node_ip(block.is_ipv4()))
    });
    let primary = families.next().flatten();
    let primary = primary.context("this host has no address of the family of --cluster-cidr; use --node-ip")?;
    Ok(HostIps { primary, secondary: families.next().flatten() })
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

/// The address of one family that this host uses towards others, else any that others could reach.
fn node_ip(v4: bool) -> Option<IpAddr> {
    // Of the documentation's ranges. Connecting a datagram socket sends nothing; it asks the routing table for a source
    // address.
    let (any, somebody): (IpAddr, IpAddr) = match v4 {
        true => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        false => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let route = || {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((somebody, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(reachable)
    };
    route().or_else(|| addresses().into_iter().find(|address| address.is_ipv4() == v4 && reachable(address)))
}

fn reachable(address: &IpAddr) -> bool {
    !address.is_loopback()
        && match address {
            IpAddr::V4(four) => !four.is_link_local(),
            IpAddr::V6(six) => !six.is_unicast_link_local(),
        }
}

/// All of this host's own addresses, for the API's certificate.
pub fn addresses() -> Vec<IpAddr> {
    let address = |address: SockaddrStorage| {
        let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    nix::ifaddrs::getifaddrs()
        .map_or_else(|_| Vec::new(), |all| all.filter_map(|interface| address(interface.address?)).collect())
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
        let local = HostIps::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let refused = node_ips(Some(local), &[]).expect_err("refused").to_string();
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
