//! Node ports on 127.0.0.1, and what keeps that safe.
//!
//! A process of the node may connect to a node port at a loopback address; the packet then leaves the host, which the
//! kernel only does where `route_localnet` is on. That parameter also makes the kernel take packets to and from
//! loopback addresses off the wire, so rules of ours refuse what it did. IPv6 has no such parameter, and `::1` no node
//! ports.

use std::net::{IpAddr, Ipv4Addr};

use base_sys::nft::{Batch, Chain, ChainKind, Cmp, CtKey, Expr, Hook, MetaKey, NatKind, Port, Reg, Verdict};
use base_sys::route::{Cidr, IpCidr};

use crate::frontend::Family;
use crate::layout::{Rules, verdict};
use crate::network::Network;
use crate::rules::{self, keep_bits};
use crate::shape::{KEY, octets};

/// The kernel parameter, below `/proc/sys`. Only for whoever has the table's rules loaded.
pub const ROUTE_LOOPBACK: (&str, &str) = ("net/ipv4/conf/all/route_localnet", "1");

/// `raw` in nft's words: before connection tracking and before any translation back, so that an answer to a loopback
/// address still carries the node's.
const PRIORITY_RAW: i32 = -300;
/// `IPS_DST_NAT`
const TRANSLATED: u32 = 1 << 5;
const GUARD: &str = "loopback-guard";

fn loopback(family: Family) -> IpCidr {
    match family {
        Family::V4 => Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 is a prefix").into(),
        Family::V6 => Cidr::new(std::net::Ipv6Addr::LOCALHOST, 128).expect("128 is a prefix").into(),
    }
}

/// Whether the destination has no node ports though it is local.
pub(crate) fn excluded(family: Family) -> Vec<Expr> {
    match family {
        Family::V4 => Vec::new(),
        Family::V6 => rules::destination_in(loopback(family), Cmp::Ne).into(),
    }
}

/// What the kernel calls martians.
pub(crate) fn add_guard(batch: &mut Batch) {
    batch.add_chain(&Chain { name: GUARD.into(), base: Some((ChainKind::Filter, Hook::Prerouting, PRIORITY_RAW)) });
    let mut rule = Rules { batch, chain: GUARD };
    let loopback = loopback(Family::V4);
    for address_in in [rules::source_in, rules::destination_in] {
        rule.add(
            "loopback addresses come from nowhere else",
            [
                rules::family_is(Family::V4).into(),
                address_in(loopback, Cmp::Eq).into(),
                link_is_not_loopback(MetaKey::IifName),
                verdict(Verdict::Drop),
            ],
        );
    }
}

/// What leaves from a loopback address was translated and gets the node's; nothing else leaves.
pub(crate) fn add_source_rules(rule: &mut Rules<'_>, network: &Network) {
    if !matches!(network.node_ip, IpAddr::V4(_)) {
        return;
    }
    let leaves = || {
        let from = rules::source_in(loopback(Family::V4), Cmp::Eq);
        [rules::family_is(Family::V4).to_vec(), from.into(), link_is_not_loopback(MetaKey::OifName)].concat()
    };
    let status = Reg::new(0);
    let translated = vec![
        Expr::Ct { key: CtKey::Status, to: status },
        keep_bits(status, TRANSLATED, 0),
        Expr::Cmp { from: status, op: Cmp::Ne, value: vec![0; 4] },
    ];
    let snat = vec![
        Expr::Immediate { to: KEY, value: octets(network.node_ip) },
        Expr::Nat { kind: NatKind::Source, family: network.family().proto(), address: KEY, port: Port::Kept },
    ];
    rule.add("from loopback through a node port", [leaves(), translated, snat]);
    rule.add("loopback addresses stay here", [leaves(), verdict(Verdict::Drop)]);
}

fn link_is_not_loopback(key: MetaKey) -> Vec<Expr> {
    // With the terminating zero: this name and no longer one.
    vec![Expr::Meta { key, to: KEY }, Expr::Cmp { from: KEY, op: Cmp::Ne, value: b"lo\0".to_vec() }]
}
