//! The wire between the nodes of a local cluster: a bridge on this host, and a namespace with a link to it per node.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base_sys::netns::NetNs;
use base_sys::nft::{Batch, Chain, ChainKind, Cmp, Expr, Family, Hook, MetaKey, Nft, PayloadBase, Reg, Rule};
use base_sys::route::{self, Ipv4Cidr, MacAddress, Request, Route, RouteSpec, Veth};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sha2::{Digest as _, Sha256};

use super::{Member, State};

/// Where `ip netns` keeps names.
const NAMES: &str = "/run/netns";
const LOOPBACK: u32 = 1;
const ENODEV: i32 = 19;
const IPV4_SOURCE: u32 = 12;
/// Of source translation.
const PRIORITY: i32 = 100;

pub struct Network {
    pub block: Ipv4Cidr,
    pub state: State,
}

/// A network of 256 addresses that this host has no part in, always the same for a directory where it can be.
pub fn choose(directory: &Path) -> Result<Ipv4Cidr> {
    let mut route = Route::open().context("opening a routing socket")?;
    let own = route.addresses().context("reading this host's addresses")?;
    let start = Sha256::digest(directory.as_os_str().as_encoded_bytes())[0];
    for number in 0..=u8::MAX {
        let network = Ipv4Addr::new(172, 30, start.wrapping_add(number), 0);
        let block = Ipv4Cidr::new(network, 24).context("a network")?;
        if !own.iter().any(|(_, address)| block.contains(*address)) {
            return Ok(block);
        }
    }
    bail!("every network of 172.30.0.0/16 is in use; choose one with --network")
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
    fn host(&self) -> Result<Ipv4Addr> {
        self.block.nth(1).context("the network is too small")
    }

    pub fn make(&self) -> Result<()> {
        let mut route = Route::open()?;
        let prefix = self.block.prefix();
        route.apply([Request::create_bridge(&self.state.bridge)])?;
        let bridge = route.link(&self.state.bridge)?.context("the bridge vanished")?.index;
        route.apply([Request::add_address(bridge, self.host()?, prefix)])?;
        net_podnet::forwarding::acquire(&self.state.bridge).context("letting this host forward packets")?;
        self.masquerade().context("letting the nodes reach the outside")?;
        for node in &self.state.nodes {
            self.attach(&mut route, bridge, node).with_context(|| format!("connecting {}", node.name))?;
        }
        Ok(())
    }

    fn attach(&self, route: &mut Route, bridge: u32, node: &Member) -> Result<()> {
        let namespace = named(node)?;
        let [a, b, c, d] = node.address.octets();
        // Told by the address, so that they are the same each time.
        let (mac, peer_mac) = (MacAddress([0x0a, 0x59, a, b, c, d]), MacAddress([0x0a, 0x5a, a, b, c, d]));
        let veth = Veth { name: &node.link, mac, peer_name: "eth0", peer_mac, mtu: None };
        route.apply([Request::create_veth(&veth, namespace.fd())])?;
        let port = route.link(&node.link)?.context("the link vanished")?.index;
        route.apply([Request::set_master(port, bridge)])?;
        let (address, prefix, gateway) = (node.address, self.block.prefix(), self.host()?);
        namespace.run(move || -> Result<(), route::Error> {
            let mut inside = Route::open()?;
            let Some(link) = inside.link("eth0")? else { return Ok(()) };
            let default = RouteSpec { via: Some(gateway), ..RouteSpec::to_link(Ipv4Addr::UNSPECIFIED, 0, link.index) };
            inside.apply([
                Request::link_up(LOOPBACK),
                Request::link_up(link.index),
                Request::add_address(link.index, address, prefix),
                Request::set_route(&default),
            ])
        })??;
        Ok(())
    }

    fn masquerade(&self) -> Result<()> {
        let mut batch = Batch::new(Family::Ipv4, &self.state.table);
        batch.add_table();
        let base = Some((ChainKind::Nat, Hook::Postrouting, PRIORITY));
        batch.add_chain(&Chain { name: "postrouting".into(), base });
        let (key, name) = (Reg::new(0), self.state.bridge.bytes().chain([0]).collect());
        let exprs = vec![
            Expr::Payload { base: PayloadBase::Network, offset: IPV4_SOURCE, length: 4, to: key },
            Expr::Bitwise { from: key, to: key, mask: self.block.mask().octets().to_vec(), xor: vec![0; 4] },
            Expr::Cmp { from: key, op: Cmp::Eq, value: self.block.network().octets().to_vec() },
            Expr::Meta { key: MetaKey::OifName, to: key },
            Expr::Cmp { from: key, op: Cmp::Ne, value: name },
            Expr::Masquerade,
        ];
        batch.add_rule(&Rule { chain: "postrouting".into(), exprs, comment: "nodes to the outside".into() });
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
        Nft::open()?.delete_table(Family::Ipv4, &self.state.table)?;
        net_podnet::forwarding::release(&self.state.bridge).context("giving back the host's forwarding")
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
