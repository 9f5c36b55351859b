//! The routes in the kernel: what is there is remembered, and only differences are sent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base_sys::route::{self, IpCidr, MacAddress, Request, Route, Vxlan, host_prefix};

use super::peers::Peer;
use super::plan::{self, Own, PROTOCOL, Ways};
use super::prober::Probed;
use super::{Error, FabricConfig, TUNNEL_PORT};
use crate::{host, link};

/// Linux's least for IPv6, and what every network carries.
const LEAST_MTU: u32 = 1280;
/// How the addresses that are there to be probed show in `ip address`.
const PROBE: u8 = b'P';
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;

#[derive(Debug)]
pub(super) struct Kernel {
    route: Route,
    own: Own,
    ways: Ways,
    mtu: u32,
}

impl Kernel {
    /// Makes the tunnel, or takes over that of an earlier run with its routes.
    pub(super) fn open(config: &FabricConfig, tunnel: &str) -> Result<Self, Error> {
        let mut route = Route::open()?;
        let first = config.networks.first().ok_or(Error::NoNetwork)?;
        let mtu = uplink_mtu(&mut route, first.node_ip)?;
        let tunnel = make_tunnel(&mut route, config, tunnel, first.node_ip, mtu)?;
        let own = Own { networks: config.networks.clone(), tunnel };
        let blocks: Vec<IpCidr> = config.networks.iter().map(|network| network.cluster_cidr).collect();
        let ours = route.routes(PROTOCOL)?.into_iter().filter(|route| contain(&blocks, route.destination));
        let routes = ours.map(|route| ((route.destination, route.prefix), route)).collect();
        Ok(Self { route, own, ways: Ways { routes, ..Ways::default() }, mtu })
    }

    /// Bytes of the largest packet of the link to the other nodes.
    pub(super) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Brings the kernel to the plan.
    pub(super) fn apply(&mut self, peers: &[Arc<Peer>], probed: &Probed) -> Result<(), Error> {
        let neighbours = self.neighbours(peers)?;
        let wanted = plan::plan(&self.own, peers, &neighbours, probed);
        // A node that moved keeps its tunnel address: what goes, goes first.
        let tunnel = self.own.tunnel;
        for (mac, host) in self.ways.forwardings.difference(&wanted.forwardings) {
            unless_absent(self.route.apply([Request::delete_forwarding(tunnel, MacAddress(*mac), *host)]))?;
        }
        for (gateway, _) in self.ways.neighbours.difference(&wanted.neighbours) {
            unless_absent(self.route.apply([Request::delete_neighbour(tunnel, *gateway)]))?;
        }
        let forwardings = wanted.forwardings.difference(&self.ways.forwardings);
        self.route.apply(forwardings.map(|(mac, host)| Request::set_forwarding(tunnel, MacAddress(*mac), *host)))?;
        let neighbours = wanted.neighbours.difference(&self.ways.neighbours);
        self.route
            .apply(neighbours.map(|(gateway, mac)| Request::set_neighbour(tunnel, *gateway, MacAddress(*mac))))?;
        let changed = wanted.routes.iter().filter(|(key, route)| self.ways.routes.get(key) != Some(route));
        self.route.apply(changed.map(|(_, route)| Request::set_route(route)))?;
        for (key, route) in &self.ways.routes {
            if !wanted.routes.contains_key(key) {
                unless_absent(self.route.apply([Request::delete_route(route)]))?;
            }
        }
        self.ways = wanted;
        Ok(())
    }

    /// Which of the peers' addresses are on a link of this node.
    fn neighbours(&mut self, peers: &[Arc<Peer>]) -> Result<BTreeMap<IpAddr, u32>, Error> {
        let mut neighbours = BTreeMap::new();
        for address in peers.iter().flat_map(|peer| &peer.addresses) {
            if let Some((link, None)) = self.route.way_to(*address)? {
                neighbours.insert(*address, link);
            }
        }
        Ok(neighbours)
    }
}

/// The tunnel's link with two addresses of each family; made anew when it is not as it should be.
fn make_tunnel(
    route: &mut Route,
    config: &FabricConfig,
    name: &str,
    local: IpAddr,
    uplink_mtu: u32,
) -> Result<u32, Error> {
    let blocks = || config.networks.iter().map(|network| network.node_cidr);
    let mac = blocks().next().map(plan::tunnel_mac).ok_or(Error::NoNetwork)?;
    let mtu = uplink_mtu.saturating_sub(plan::overhead(local)).max(LEAST_MTU);
    // The link itself does not tell the rest in a form that is worth parsing.
    let alias = format!("sampan {} of {} port {TUNNEL_PORT}", config.network_id, local);
    let as_wanted = |link: &route::Link| (link.mac, link.mtu, link.alias.as_deref()) == (Some(mac), mtu, Some(&*alias));
    let index = match route.link(name)? {
        Some(link) if as_wanted(&link) => link.index,
        other => {
            if other.is_some() {
                link::delete(route, name).map_err(Error::Tunnel)?;
            }
            let vxlan = Vxlan { name, mac, id: config.network_id, port: TUNNEL_PORT, local, mtu };
            route.apply([Request::create_vxlan(&vxlan)])?;
            let index = route.link(name)?.ok_or_else(|| Error::Vanished(name.to_owned()))?.index;
            route.apply([Request::set_alias(index, &alias)])?;
            index
        }
    };
    route.apply(blocks().flat_map(|block| {
        let (own, probe) = (plan::tunnel_address(block), plan::probe_address(block));
        let prefix = host_prefix(own);
        // What is masqueraded into the tunnel must not have the probe's address: no answer to that takes the tunnel.
        [Request::add_address(index, own, prefix), Request::add_marked_address(index, probe, prefix, PROBE)]
    }))?;
    Ok(index)
}

/// Bytes of the largest packet of the link that has this node's address.
pub(super) fn uplink_mtu(route: &mut Route, node_ip: IpAddr) -> Result<u32, Error> {
    let link = host::uplink(route, node_ip)?;
    let links = route.links("")?;
    let mtu = links.iter().find(|found| found.index == link).map(|link| link.mtu);
    mtu.ok_or_else(|| Error::Vanished(format!("of {node_ip}")))
}

fn contain(blocks: &[IpCidr], address: IpAddr) -> bool {
    blocks.iter().any(|block| block.contains(address))
}

/// Removes the tunnel and every route of ours to pods of these blocks.
pub fn remove(tunnel: &str, blocks: &[IpCidr]) -> Result<(), Error> {
    let mut route = Route::open()?;
    for spec in route.routes(PROTOCOL)?.into_iter().filter(|route| contain(blocks, route.destination)) {
        unless_absent(route.apply([Request::delete_route(&spec)]))?;
    }
    link::delete(&mut route, tunnel).map_err(Error::Tunnel)
}

/// What went by itself, with its link say, is as good as deleted.
fn unless_absent(result: Result<(), route::Error>) -> Result<(), Error> {
    match result {
        Err(error) if matches!(error.errno(), Some(ENOENT | ESRCH)) => Ok(()),
        result => Ok(result?),
    }
}
