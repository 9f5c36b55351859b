//! From the other nodes to routes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use base_sys::route::{IpCidr, MacAddress, RouteSpec, host_prefix};

use super::peers::Peer;
use super::prober::Probed;
use crate::network::Network;

/// How routes of ours show in `ip route`: `proto 83`, 'S'.
pub(super) const PROTOCOL: u8 = b'S';

/// What VXLAN adds to a packet between hosts of this family: outer IP, UDP and VXLAN headers, and the inner Ethernet
/// header.
pub(super) fn overhead(host: IpAddr) -> u32 {
    if host.is_ipv4() { 50 } else { 70 }
}

/// This node's side of the ways.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The first one's node address is where the tunnel begins.
    pub(super) networks: Vec<Network>,
    /// The tunnel's link.
    pub(super) tunnel: u32,
}

impl Own {
    /// Where the tunnel to a peer ends; `None` where it has no address of the tunnel's family.
    pub(super) fn host(&self, peer: &Peer) -> Option<IpAddr> {
        host(&self.networks, peer)
    }
}

pub(super) fn host(networks: &[Network], peer: &Peer) -> Option<IpAddr> {
    peer.address_beside(networks.first()?.node_ip)
}

/// A node's own address in the tunnel.
pub fn tunnel_address(block: IpCidr) -> IpAddr {
    block.network()
}

/// The number of a block among those of its size tells the nodes apart.
pub(super) fn tunnel_mac(block: IpCidr) -> MacAddress {
    let host_bits = u32::from(host_prefix(block.network()) - block.prefix());
    let number = match block.network() {
        IpAddr::V4(four) => u128::from(u32::from(four)),
        IpAddr::V6(six) => six.into(),
    };
    let [a, b, c, d] = (number.checked_shr(host_bits).unwrap_or(0) as u32).to_be_bytes();
    MacAddress([0x0a, 0x58, a, b, c, d])
}

/// By which a block is reached through the tunnel. Of IPv6 a link-local address: the kernel refuses a gateway that
/// another link has a route to, as there is while the way changes.
fn tunnel_gateway(block: IpCidr, mac: MacAddress) -> IpAddr {
    match block {
        IpCidr::V4(block) => block.network().into(),
        IpCidr::V6(_) => {
            let MacAddress([a, b, c, d, e, f]) = mac;
            let words = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, words[0], words[1], words[2]).into()
        }
    }
}

/// The address of a node that is only there to be probed.
pub(super) fn probe_address(block: IpCidr) -> IpAddr {
    block.last()
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// By destination and prefix.
    pub(super) routes: BTreeMap<(IpAddr, u8), RouteSpec>,
    /// Gateways in the tunnel, and their hardware addresses.
    pub(super) neighbours: BTreeSet<(IpAddr, [u8; 6])>,
    /// To which host the frames for a hardware address go.
    pub(super) forwardings: BTreeSet<([u8; 6], IpAddr)>,
}

/// Each block of a peer is reached directly once a probe has said so, and through the tunnel until then. `neighbours` are
/// those addresses of the peers that have no router in between, and the link they are on.
pub(super) fn plan(own: &Own, peers: &[Arc<Peer>], neighbours: &BTreeMap<IpAddr, u32>, probed: &Probed) -> Ways {
    let mut ways = Ways::default();
    for peer in peers {
        let (Some(host), Some(first)) = (own.host(peer), peer.blocks.first()) else { continue };
        let (mac, mtu) = (tunnel_mac(*first), probed.narrow.get(&host).copied());
        ways.forwardings.insert((mac.0, host));
        for block in &peer.blocks {
            let ours = own.networks.iter().find(|network| network.node_cidr.is_ipv4() == block.is_ipv4());
            let Some(network) = ours else { continue };
            let hop = peer.address_beside(block.network());
            let neighbour = hop.and_then(|hop| Some((hop, *neighbours.get(&hop)?)));
            let to_block =
                |link| RouteSpec { protocol: PROTOCOL, ..RouteSpec::to_link(block.network(), block.prefix(), link) };
            let mut add = |route: RouteSpec| ways.routes.insert((route.destination, route.prefix), route);
            if let Some((hop, link)) = neighbour {
                let source = Some(probe_address(network.node_cidr));
                let probe = probe_address(*block);
                let to_probe = RouteSpec::to_link(probe, host_prefix(probe), link);
                add(RouteSpec { via: Some(hop), source, protocol: PROTOCOL, ..to_probe });
            }
            match neighbour.filter(|(hop, _)| probed.direct.contains(hop)) {
                Some((hop, link)) => {
                    add(RouteSpec { via: Some(hop), source: Some(network.node_ip), mtu, ..to_block(link) });
                }
                None => {
                    let gateway = tunnel_gateway(*block, mac);
                    // The answers must come back through the tunnel, too.
                    let source = Some(tunnel_address(network.node_cidr));
                    let mtu = mtu.map(|mtu| mtu.saturating_sub(overhead(host)));
                    add(RouteSpec { via: Some(gateway), source, mtu, ..to_block(own.tunnel) });
                }
            }
            ways.neighbours.insert((tunnel_gateway(*block, mac), mac.0));
        }
    }
    ways
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn peer(number: u8) -> Arc<Peer> {
        let blocks = [format!("10.42.{number}.0/24"), format!("fd42:0:0:{number}::/64")];
        let addresses = vec![address(&format!("192.0.2.{number}")), address(&format!("fd00::{number}"))];
        let blocks = blocks.map(|block| block.parse().unwrap()).into();
        Arc::new(Peer { name: format!("n{number}"), addresses, blocks })
    }

    fn network(node_ip: &str, node_cidr: &str) -> Network {
        let any = node_cidr.parse().unwrap();
        Network { cluster_cidr: any, service_cidr: any, node_cidr: any, node_ip: address(node_ip) }
    }

    fn own(networks: &[(&str, &str)]) -> Own {
        Own { networks: networks.iter().map(|(ip, block)| network(ip, block)).collect(), tunnel: 9 }
    }

    fn routes(own: &Own, neighbours: &[&str], direct: &[&str]) -> Vec<String> {
        let neighbours = neighbours.iter().map(|ip| (address(ip), 2)).collect();
        let direct = direct.iter().map(|ip| address(ip)).collect();
        let narrow = BTreeMap::from([(address("192.0.2.3"), 1400), (address("fd00::3"), 1400)]);
        let ways = plan(own, &[peer(2), peer(3)], &neighbours, &Probed { direct, narrow });
        assert_eq!((ways.forwardings.len(), ways.neighbours.len()), (2, 2 * own.networks.len()));
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
        let own = own(&[("192.0.2.1", "10.42.1.0/24")]);
        assert_eq!(routes(&own, &[], &[]), [tunnel(2), tunnel(3)]);
        assert_eq!(routes(&own, &["192.0.2.2"], &[]), [tunnel(2), probe(2), tunnel(3)]);
        let both = ["192.0.2.2", "192.0.2.3"];
        assert_eq!(routes(&own, &both, &["192.0.2.2"]), [direct(2), probe(2), tunnel(3), probe(3)]);
        // Behind a router, the probe that came back before is no longer trusted.
        assert_eq!(routes(&own, &["192.0.2.3"], &["192.0.2.2"]), [tunnel(2), tunnel(3), probe(3)]);
    }

    #[test]
    fn each_family_has_its_own_way_and_the_tunnel_is_of_the_first() {
        let own = own(&[("192.0.2.1", "10.42.1.0/24"), ("fd00::1", "fd42:0:0:1::/64")]);
        assert_eq!(
            routes(&own, &["fd00::2"], &["fd00::2"]),
            [
                "10.42.2.0/24 via 10.42.2.0 dev 9 src 10.42.1.0",
                "10.42.3.0/24 via 10.42.3.0 dev 9 src 10.42.1.0 mtu 1350",
                "fd42:0:0:2::/64 via fd00::2 dev 2 src fd00::1",
                "fd42::2:ffff:ffff:ffff:ffff/128 via fd00::2 dev 2 src fd42::1:ffff:ffff:ffff:ffff",
                "fd42:0:0:3::/64 via fe80::a58:a:2a03 dev 9 src fd42:0:0:1:: mtu 1350",
            ]
        );
        let six = self::own(&[("fd00::1", "fd42:0:0:1::/64")]);
        let ways = plan(&six, &[peer(3)], &BTreeMap::new(), &Probed::default());
        assert_eq!(ways.forwardings.first().unwrap().1, address("fd00::3"));
    }

    #[test]
    fn a_peer_without_an_address_of_the_tunnels_family_is_not_reached() {
        let four = own(&[("192.0.2.1", "10.42.1.0/24")]);
        let far = Peer { addresses: vec![address("fd00::2")], ..(*peer(2)).clone() };
        assert_eq!(plan(&four, &[Arc::new(far)], &BTreeMap::new(), &Probed::default()), Ways::default());
    }
}
