//! From the other nodes to routes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use base_sys::route::{Ipv4Cidr, MacAddress, RouteSpec};

use super::peers::Peer;
use super::prober::Probed;

/// How routes of ours show in `ip route`: `proto 83`, 'S'.
pub(super) const PROTOCOL: u8 = b'S';
/// What VXLAN adds to a packet: outer IPv4, UDP and VXLAN headers, and the inner Ethernet header.
pub(super) const OVERHEAD: u32 = 50;

/// This node's side of the ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) node_ip: Ipv4Addr,
    pub(super) block: Ipv4Cidr,
    /// The tunnel's link.
    pub(super) tunnel: u32,
}

/// A node's end of the tunnel.
pub(super) fn tunnel_address(block: Ipv4Cidr) -> Ipv4Addr {
    block.network()
}

pub(super) fn tunnel_mac(block: Ipv4Cidr) -> MacAddress {
    let [a, b, c, d] = block.network().octets();
    MacAddress([0x0a, 0x58, a, b, c, d])
}

/// The address of a node that is only there to be probed.
pub(super) fn probe_address(block: Ipv4Cidr) -> Ipv4Addr {
    block.last()
}

/// An entry of the tunnel: who is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forwarding {
    pub(super) address: Ipv4Addr,
    pub(super) mac: [u8; 6],
    pub(super) host: Ipv4Addr,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// By destination and prefix.
    pub(super) routes: BTreeMap<(Ipv4Addr, u8), RouteSpec>,
    pub(super) forwardings: BTreeSet<Forwarding>,
}

/// Each peer is reached directly once a probe has said so, and through the tunnel until then. `neighbours` are those of
/// the peers that have no router in between: their address, and the link they are on.
pub(super) fn plan(own: &Own, peers: &[Arc<Peer>], neighbours: &BTreeMap<Ipv4Addr, u32>, probed: &Probed) -> Ways {
    let mut ways = Ways::default();
    let mut add = |route: RouteSpec| ways.routes.insert((route.destination, route.prefix), route);
    for peer in peers {
        let (gateway, probe) = (tunnel_address(peer.block), probe_address(peer.block));
        let block = |link| RouteSpec { protocol: PROTOCOL, ..RouteSpec::to_link(gateway, peer.block.prefix(), link) };
        let neighbour = neighbours.get(&peer.address);
        if let Some(link) = neighbour {
            let source = Some(probe_address(own.block));
            let to_probe = RouteSpec::to_link(probe, 32, *link);
            add(RouteSpec { via: Some(peer.address), source, protocol: PROTOCOL, ..to_probe });
        }
        let mtu = probed.narrow.get(&peer.address).copied();
        match neighbour.filter(|_| probed.direct.contains(&peer.address)) {
            Some(link) => {
                let source = Some(own.node_ip);
                add(RouteSpec { via: Some(peer.address), source, mtu, ..block(*link) });
            }
            None => {
                // The answers must come back through the tunnel, too.
                let source = Some(tunnel_address(own.block));
                let mtu = mtu.map(|mtu| mtu.saturating_sub(OVERHEAD));
                add(RouteSpec { via: Some(gateway), source, mtu, ..block(own.tunnel) });
            }
        }
        let mac = tunnel_mac(peer.block).0;
        ways.forwardings.insert(Forwarding { address: gateway, mac, host: peer.address });
    }
    ways
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(number: u8) -> Arc<Peer> {
        let block = format!("10.42.{number}.0/24").parse().unwrap();
        Arc::new(Peer { name: format!("n{number}"), address: [192, 0, 2, number].into(), block })
    }

    fn routes(neighbours: &[u8], direct: &[u8]) -> Vec<String> {
        let own = Own { node_ip: [192, 0, 2, 1].into(), block: "10.42.1.0/24".parse().unwrap(), tunnel: 9 };
        let neighbours = neighbours.iter().map(|number| ([192, 0, 2, *number].into(), 2)).collect();
        let direct = direct.iter().map(|number| [192, 0, 2, *number].into()).collect();
        let narrow = BTreeMap::from([([192, 0, 2, 3].into(), 1400)]);
        let ways = plan(&own, &[peer(2), peer(3)], &neighbours, &Probed { direct, narrow });
        assert_eq!(ways.forwardings.len(), 2);
        let text = |route: &RouteSpec| {
            let (via, source) = (route.via.unwrap(), route.source.unwrap());
            let mtu = route.mtu.map_or_else(String::new, |mtu| format!(" mtu {mtu}"));
            format!("{}/{} via {via} dev {} src {source}{mtu}", route.destination, route.prefix, route.link)
        };
        ways.routes.values().map(text).collect()
    }

    #[test]
    fn a_way_is_direct_once_a_probe_has_come_back() {
        let tunnel = |number| {
            let mtu = if number == 3 { " mtu 1350" } else { "" };
            format!("10.42.{number}.0/24 via 10.42.{number}.0 dev 9 src 10.42.1.0{mtu}")
        };
        let probe = |number| format!("10.42.{number}.255/32 via 192.0.2.{number} dev 2 src 10.42.1.255");
        let direct = |number| format!("10.42.{number}.0/24 via 192.0.2.{number} dev 2 src 192.0.2.1");
        assert_eq!(routes(&[], &[]), [tunnel(2), tunnel(3)]);
        assert_eq!(routes(&[2], &[]), [tunnel(2), probe(2), tunnel(3)]);
        assert_eq!(routes(&[2, 3], &[2]), [direct(2), probe(2), tunnel(3), probe(3)]);
        // Behind a router, the probe that came back before is no longer trusted.
        assert_eq!(routes(&[3], &[2]), [tunnel(2), tunnel(3), probe(3)]);
    }
}
