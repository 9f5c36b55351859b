//! The routes in the kernel: what is there is remembered, and only differences are sent.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base_sys::route::{self, Ipv4Cidr, MacAddress, Request, Route, Vxlan};

use super::peers::Peer;
use super::plan::{self, Forwarding, Own, PROTOCOL, Ways};
use super::prober::Probed;
use super::{Error, FabricConfig, TUNNEL_PORT};
use crate::link;

/// Linux's least for IPv6, and what every network carries.
const LEAST_MTU: u32 = 1280;
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
    pub(super) fn open(config: &FabricConfig) -> Result<Self, Error> {
        let mut route = Route::open()?;
        let mtu = uplink_mtu(&mut route, config.node_ip)?;
        let tunnel = tunnel(&mut route, config, mtu)?;
        let own = Own { node_ip: config.node_ip, block: config.node_cidr, tunnel };
        let ours = route.routes(PROTOCOL)?.into_iter().filter(|route| config.cluster_cidr.contains(route.destination));
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
        for gone in self.ways.forwardings.difference(&wanted.forwardings) {
            let Forwarding { address, mac, host } = *gone;
            let requests = [
                Request::delete_forwarding(self.own.tunnel, MacAddress(mac), host),
                Request::delete_neighbour(self.own.tunnel, address),
            ];
            for request in requests {
                unless_absent(self.route.apply([request]))?;
            }
        }
        let new = wanted.forwardings.difference(&self.ways.forwardings);
        self.route.apply(new.flat_map(|entry| {
            let mac = MacAddress(entry.mac);
            [
                Request::set_forwarding(self.own.tunnel, mac, entry.host),
                Request::set_neighbour(self.own.tunnel, entry.address, mac),
            ]
        }))?;
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

    /// Which of the peers are on a link of this node.
    fn neighbours(&mut self, peers: &[Arc<Peer>]) -> Result<BTreeMap<Ipv4Addr, u32>, Error> {
        let mut neighbours = BTreeMap::new();
        for peer in peers {
            if let Some((link, None)) = self.route.way_to(peer.address)? {
                neighbours.insert(peer.address, link);
            }
        }
        Ok(neighbours)
    }
}

/// The tunnel's link with its two addresses; made anew when it is not as it should be.
fn tunnel(route: &mut Route, config: &FabricConfig, uplink_mtu: u32) -> Result<u32, Error> {
    let mac = plan::tunnel_mac(config.node_cidr);
    let mtu = uplink_mtu.saturating_sub(plan::OVERHEAD).max(LEAST_MTU);
    // The link itself does not tell the rest in a form that is worth parsing.
    let alias = format!("sampan {} of {} port {TUNNEL_PORT}", config.network_id, config.node_ip);
    let name = &*config.tunnel;
    if let Some(link) = route.link(name)? {
        if (link.mac, link.mtu, link.alias.as_deref()) == (Some(mac), mtu, Some(&*alias)) {
            return Ok(link.index);
        }
        link::delete(route, name).map_err(Error::Tunnel)?;
    }
    let vxlan = Vxlan { name, mac, id: config.network_id, port: TUNNEL_PORT, local: config.node_ip, mtu };
    route.apply([Request::create_vxlan(&vxlan)])?;
    let index = route.link(name)?.ok_or_else(|| Error::Vanished(name.to_owned()))?.index;
    route.apply([
        Request::set_alias(index, &alias),
        Request::add_address(index, plan::tunnel_address(config.node_cidr), 32),
        Request::add_address(index, plan::probe_address(config.node_cidr), 32),
    ])?;
    Ok(index)
}

/// Bytes of the largest packet of the link that has this node's address.
fn uplink_mtu(route: &mut Route, node_ip: Ipv4Addr) -> Result<u32, Error> {
    let link = route.addresses()?.into_iter().find(|(_, address)| *address == node_ip).map(|(index, _)| index);
    let links = route.links("")?;
    let mtu = links.iter().find(|found| Some(found.index) == link).map(|link| link.mtu);
    mtu.ok_or(Error::NoUplink(node_ip))
}

/// Removes the tunnel and every route of ours to pods of `cluster_cidr`.
pub fn remove(tunnel: &str, cluster_cidr: Ipv4Cidr) -> Result<(), Error> {
    let mut route = Route::open()?;
    for spec in route.routes(PROTOCOL)?.into_iter().filter(|route| cluster_cidr.contains(route.destination)) {
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
