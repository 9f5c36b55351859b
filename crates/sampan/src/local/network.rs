//! The wire between the nodes of a local cluster: a bridge on this host, and a namespace with a link to it per node.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base_sys::netns::NetNs;
use base_sys::nft::{Batch, Chain, ChainKind, Cmp, Expr, Family, Hook, MetaKey, NfProto, Nft, PayloadBase, Reg, Rule};
use base_sys::route::{self, IpCidr, MacAddress, Request, Route, RouteSpec, Veth};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest as _, Sha256};

use super::{Member, State};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
const LOOPBACK: u32 = 1;
const ENODEV: i32 = 19;
/// Of source translation.
const PRIORITY: i32 = 100;

pub struct Network {
    /// One per family.
    pub blocks: Vec<IpCidr>,
    pub state: State,
}

/// A network of one family that this host has no part in, always the same for a directory where it can be.
pub fn choose(directory: &Path, v4: bool) -> Result<IpCidr> {
    let mut route = Route::open().context("opening a routing socket")?;
    let own = route.addresses().context("reading this host's addresses")?;
    let start = Sha256::digest(directory.as_os_str().as_encoded_bytes())[0];
    let block = |number: u8| match v4 {
        true => IpCidr::new(Ipv4Addr::new(172, 30, number, 0).into(), 24),
        false => IpCidr::new(Ipv6Addr::new(0xfd73, 0x616d, 0, number.into(), 0, 0, 0, 0).into(), 64),
    };
    for number in 0..=u8::MAX {
        let block = block(start.wrapping_add(number)).context("a network")?;
        if !own.iter().any(|(_, address)| block.contains(*address)) {
            return Ok(block);
        }
    }
    bail!("every network that could be is in use; choose one with --network")
}

fn path(node: &Member) -> PathBuf {
    Path::new(NAMES).join(&node.namespace)
}

pub fn exists(node: &Member) -> bool {
    NetNs::open(&path(node)).is_ok_and(|namespace| namespace.run(|| ()).is_ok())
}

pub fn namespace(node: &Member) -> Result<NetNs> {
    NetNs::open(&path(node)).with_context(|| format!("opening the network namespace {}", node.namespace))
}

impl Network {
    pub fn make(&self) -> Result<()> {
        let mut route = Route::open()?;
        route.apply([Request::create_bridge(&self.state.bridge)])?;
        let bridge = route.link(&self.state.bridge)?.context("the bridge vanished")?.index;
        let mut hosts = Vec::new();
        for block in &self.blocks {
            let host = host(block)?;
            route.apply([Request::add_address(bridge, host, block.prefix())])?;
            hosts.push(host);
        }
        net_podnet::forwarding::acquire(&self.state.bridge, &hosts).context("letting this host forward packets")?;
        self.masquerade().context("letting the nodes reach the outside")?;
        for node in &self.state.nodes {
            self.attach(&mut route, bridge, node).with_context(|| format!("connecting {}", node.name))?;
        }
        Ok(())
    }

    fn attach(&self, route: &mut Route, bridge: u32, node: &Member) -> Result<()> {
        let namespace = named(node)?;
        let [a, b, c, d] = tail(node.addresses.first().context("a node has an address")?);
        // Told by the address, so that they are the same each time.
        let (mac, peer_mac) = (MacAddress([0x0a, 0x59, a, b, c, d]), MacAddress([0x0a, 0x5a, a, b, c, d]));
        let veth = Veth { name: &node.link, mac, peer_name: "eth0", peer_mac, mtu: None };
        route.apply([Request::create_veth(&veth, namespace.fd())])?;
        let port = route.link(&node.link)?.context("the link vanished")?.index;
        route.apply([Request::set_master(port, bridge)])?;
        let ways = node.addresses.iter().zip(&self.blocks);
        let ways: Vec<_> =
            ways.map(|(address, block)| Ok((*address, block.prefix(), host(block)?))).collect::<Result<_>>()?;
        namespace.run(move || -> Result<(), route::Error> {
            let mut inside = Route::open()?;
            let Some(link) = inside.link("eth0")? else { return Ok(()) };
            let mut requests = vec![Request::link_up(LOOPBACK), Request::link_up(link.index)];
            for (address, prefix, gateway) in ways {
                let everywhere: IpAddr =
                    if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let default = RouteSpec { via: Some(gateway), ..RouteSpec::to_link(everywhere, 0, link.index) };
                requests.extend([Request::add_address(link.index, address, prefix), Request::set_route(&default)]);
            }
            inside.apply(requests)
        })??;
        Ok(())
    }

    fn masquerade(&self) -> Result<()> {
        let mut batch = Batch::new(Family::Inet, &self.state.table);
        batch.add_table();
        let base = Some((ChainKind::Nat, Hook::Postrouting, PRIORITY));
        batch.add_chain(&Chain { name: "postrouting".into(), base });
        let key = Reg::new(0);
        for block in &self.blocks {
            let (proto, offset, length) = match block {
                IpCidr::V4(_) => (NfProto::Ipv4, 12, 4),
                IpCidr::V6(_) => (NfProto::Ipv6, 8, 16),
            };
            let exprs = vec![
                Expr::Meta { key: MetaKey::NfProto, to: key },
                Expr::Cmp { from: key, op: Cmp::Eq, value: vec![proto as u8] },
                Expr::Payload { base: PayloadBase::Network, offset, length, to: key },
                Expr::Bitwise { from: key, to: key, mask: octets(block.mask()), xor: vec![0; length as usize] },
                Expr::Cmp { from: key, op: Cmp::Eq, value: octets(block.network()) },
                Expr::Meta { key: MetaKey::OifName, to: key },
                Expr::Cmp { from: key, op: Cmp::Ne, value: self.state.bridge.bytes().chain([0]).collect() },
                Expr::Masquerade,
            ];
            batch.add_rule(&Rule { chain: "postrouting".into(), exprs, comment: "nodes to the outside".into() });
        }
        Ok(Nft::open()?.commit(batch)?)
    }

    /// Whatever there is of it.
    pub fn remove(&self) -> Result<()> {
        for node in &self.state.nodes {
            let path = path(node);
            // Unmounted already, or never mounted.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        let mut route = Route::open()?;
        let links = self.state.nodes.iter().map(|node| &node.link).chain([&self.state.bridge]);
        for link in links {
            match route.apply([Request::delete_link(link)]) {
                Err(error) if error.errno() == Some(ENODEV) => {}
                result => result?,
            }
        }
        Nft::open()?.delete_table(Family::Inet, &self.state.table)?;
        net_podnet::forwarding::release(&self.state.bridge).context("giving back the host's forwarding")
    }
}

/// This host's own address in a network.
fn host(block: &IpCidr) -> Result<IpAddr> {
    block.nth(1).context("the network is too small")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

/// The last four bytes of an address.
fn tail(address: &IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(four) => four.octets(),
        IpAddr::V6(six) => (u128::from(*six) as u32).to_be_bytes(),
    }
}

/// Makes a network namespace that `ip netns` knows.
fn named(node: &Member) -> Result<NetNs> {
    let path = path(node);
    std::fs::create_dir_all(NAMES).with_context(|| format!("creating {NAMES}"))?;
    File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
    let namespace = NetNs::create()?;
    let source = namespace
        .run(|| mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>))?;
    source.with_context(|| format!("naming the network namespace {}", node.namespace))?;
    Ok(namespace)
}
