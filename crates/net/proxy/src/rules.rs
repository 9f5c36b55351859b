//! Pieces of rules, so that `layout` reads like the table it writes.
//!
//! Registers 0 to 4 hold the key of a front end (and its slot or client), 5 and 6 what a slot holds, 9 and 10 a copy of
//! that, 8 a saved mark, 15 whatever is compared at once.

use std::net::Ipv4Addr;

use base_sys::nft::{Cmp, Expr, FibResult, MetaKey, PayloadBase, Reg, concat};
use base_sys::route::Ipv4Cidr;

use crate::frontend::{Endpoint, Frontend, FrontendAddress, Origin};
use crate::pick::Pick;

/// The packet comes from outside and goes to an address of the outside: external traffic policies bind it.
const EXTERNAL: u32 = 0x0010_0000;
/// The packet comes from outside: unless a pod of this node answers it, it must come back through this node.
const MASQUERADE: u32 = 0x0020_0000;
/// The bits of the packet mark that are ours, between prerouting and postrouting of a connection's first packet.
const OWNED: u32 = EXTERNAL | MASQUERADE;

const NFPROTO_IPV4: u8 = 2;
const IPV4_SOURCE: u32 = 12;
const IPV4_DESTINATION: u32 = 16;
const DESTINATION_PORT: u32 = 2;
const RTN_LOCAL: u32 = 2;

const SCRATCH: Reg = Reg::new(15);
const SAVED_MARK: Reg = Reg::new(8);
pub(crate) const KEY: Reg = Reg::new(0);

/// The two kinds of front ends. Each has its own maps and chains, since their keys differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Keyed by origin, address, protocol and port.
    Address,
    /// Keyed by origin, protocol and port.
    NodePort,
}

impl Shape {
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::NodePort];

    pub(crate) fn of(frontend: &Frontend) -> Self {
        match frontend.address {
            FrontendAddress::Ip(_) => Self::Address,
            FrontendAddress::Node => Self::NodePort,
        }
    }

    /// Front end → how many endpoints it has.
    pub(crate) fn counts(self) -> &'static str {
        match self {
            Self::Address => "service-counts",
            Self::NodePort => "node-port-counts",
        }
    }

    /// Front end and slot → endpoint.
    pub(crate) fn slots(self) -> &'static str {
        match self {
            Self::Address => "service-slots",
            Self::NodePort => "node-port-slots",
        }
    }

    /// [`Pick::code`] → the chain that picks so.
    pub(crate) fn picks(self) -> &'static str {
        match self {
            Self::Address => "service-picks",
            Self::NodePort => "node-port-picks",
        }
    }

    /// Front end and client → the endpoint that the client got before. Filled by the kernel.
    pub(crate) fn affinities(self) -> &'static str {
        match self {
            Self::Address => "service-affinity",
            Self::NodePort => "node-port-affinity",
        }
    }

    /// The chain that picks an endpoint.
    pub(crate) fn pick_chain(self, pick: Pick) -> String {
        let shape = match self {
            Self::Address => "service",
            Self::NodePort => "node-port",
        };
        match pick.affinity() {
            None => format!("{shape}-pick-{}", pick.count()),
            Some(affinity) => format!("{shape}-pick-{}-for-{}s", pick.count(), affinity.seconds()),
        }
    }

    /// Loads the packet's key. Registers 0 on; the slot goes into [`Shape::slot_register`].
    pub(crate) fn load_key(self) -> Vec<Expr> {
        let mut exprs = ipv4();
        exprs.push(Expr::Meta { key: MetaKey::Mark, to: KEY });
        exprs.push(keep_bits(KEY, EXTERNAL, 0));
        let mut next = 1;
        if self == Self::Address {
            exprs.push(payload(PayloadBase::Network, IPV4_DESTINATION, 4, Reg::new(next)));
            next += 1;
        }
        exprs.push(Expr::Meta { key: MetaKey::L4Proto, to: Reg::new(next) });
        exprs.push(payload(PayloadBase::Transport, DESTINATION_PORT, 2, Reg::new(next + 1)));
        exprs
    }

    /// The field after the front end: a slot or a client.
    pub(crate) fn slot_register(self) -> Reg {
        match self {
            Self::Address => Reg::new(4),
            Self::NodePort => Reg::new(3),
        }
    }

    /// Loads the client's address behind the front end's key.
    pub(crate) fn load_client(self) -> Vec<Expr> {
        vec![payload(PayloadBase::Network, IPV4_SOURCE, 4, self.slot_register())]
    }

    /// Goes where the front end's count says; a packet to no front end goes on.
    ///
    /// The count passes through the packet's mark, which is put back in the same rule: `nft list` cannot print a
    /// lookup whose key is another lookup's result, and aborts.
    pub(crate) fn dispatch(self) -> Vec<Expr> {
        let mut exprs = vec![Expr::Meta { key: MetaKey::Mark, to: SAVED_MARK }];
        exprs.extend(self.load_key());
        exprs.extend([
            Expr::Load { map: self.counts().into(), key: KEY, to: KEY },
            Expr::SetMeta { key: MetaKey::Mark, from: KEY },
            Expr::Meta { key: MetaKey::Mark, to: KEY },
            Expr::SetMeta { key: MetaKey::Mark, from: SAVED_MARK },
            Expr::Dispatch { map: self.picks().into(), key: KEY },
        ]);
        exprs
    }

    /// A front end as an element's key.
    pub(crate) fn key(frontend: &Frontend, slot: Option<u32>) -> Vec<u8> {
        let class = match frontend.origin {
            Origin::Cluster => 0,
            Origin::External => EXTERNAL,
        };
        let (class, port) = (class.to_ne_bytes(), frontend.port.to_be_bytes());
        let protocol = [frontend.protocol as u8];
        let mut key = match frontend.address {
            FrontendAddress::Ip(ip) => concat(&[&class, &ip.octets(), &protocol, &port]),
            FrontendAddress::Node => concat(&[&class, &protocol, &port]),
        };
        if let Some(slot) = slot {
            key.extend_from_slice(&slot.to_ne_bytes());
        }
        key
    }
}

/// An endpoint as an element's data.
pub(crate) fn endpoint_data(endpoint: &Endpoint) -> Vec<u8> {
    concat(&[&endpoint.ip.octets(), &endpoint.port.to_be_bytes()])
}

/// In a table for both families, whatever reads addresses first says which.
pub(crate) fn ipv4() -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::NfProto, to: SCRATCH },
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![NFPROTO_IPV4] },
    ]
}

pub(crate) fn source_in(block: Ipv4Cidr, op: Cmp) -> [Expr; 3] {
    address_in(IPV4_SOURCE, block, op)
}

pub(crate) fn destination_in(block: Ipv4Cidr, op: Cmp) -> [Expr; 3] {
    address_in(IPV4_DESTINATION, block, op)
}

fn address_in(offset: u32, block: Ipv4Cidr, op: Cmp) -> [Expr; 3] {
    [
        payload(PayloadBase::Network, offset, 4, SCRATCH),
        Expr::Bitwise { from: SCRATCH, to: SCRATCH, mask: block.mask().octets().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { from: SCRATCH, op, value: block.network().octets().to_vec() },
    ]
}

/// Whether the destination is an address of this node.
pub(crate) fn destination_is_local(op: Cmp) -> [Expr; 2] {
    [
        Expr::Fib { result: FibResult::AddressType, to: SCRATCH },
        Expr::Cmp { from: SCRATCH, op, value: RTN_LOCAL.to_ne_bytes().to_vec() },
    ]
}

/// Source and destination address as one key in register 0.
pub(crate) fn load_both_addresses() -> [Expr; 2] {
    [
        payload(PayloadBase::Network, IPV4_SOURCE, 4, Reg::new(0)),
        payload(PayloadBase::Network, IPV4_DESTINATION, 4, Reg::new(1)),
    ]
}

/// Whether the packet leaves through a link whose name does not start so.
pub(crate) fn leaves_other_than(prefix: &str) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::OifName, to: KEY },
        Expr::Cmp { from: KEY, op: Cmp::Ne, value: prefix.as_bytes().to_vec() },
    ]
}

pub(crate) fn protocol_is(number: u8) -> [Expr; 2] {
    [Expr::Meta { key: MetaKey::L4Proto, to: SCRATCH }, Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![number] }]
}

/// What an arriving packet is marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    None,
    /// From outside to a cluster IP.
    Outsider,
    /// From outside to an address of the outside.
    External,
}

/// Sets our bits of the mark and leaves the others alone.
pub(crate) fn set_mark(mark: Mark) -> [Expr; 3] {
    let bits = match mark {
        Mark::None => 0,
        Mark::Outsider => MASQUERADE,
        Mark::External => MASQUERADE | EXTERNAL,
    };
    [
        Expr::Meta { key: MetaKey::Mark, to: SCRATCH },
        keep_bits(SCRATCH, !OWNED, bits),
        Expr::SetMeta { key: MetaKey::Mark, from: SCRATCH },
    ]
}

/// Whether the packet was marked as coming from outside.
pub(crate) fn from_outside() -> [Expr; 3] {
    [
        Expr::Meta { key: MetaKey::Mark, to: SCRATCH },
        keep_bits(SCRATCH, MASQUERADE, 0),
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: MASQUERADE.to_ne_bytes().to_vec() },
    ]
}

/// Copies registers. `nft list` cannot print a lookup's result as an element's data, and aborts; this way it is a mark.
/// The mark is as before afterwards, and nothing in between can end the rule.
pub(crate) fn copy_through_mark(pairs: &[(Reg, Reg)]) -> Vec<Expr> {
    let mut exprs = vec![Expr::Meta { key: MetaKey::Mark, to: SAVED_MARK }];
    for (from, to) in pairs {
        exprs.push(Expr::SetMeta { key: MetaKey::Mark, from: *from });
        exprs.push(Expr::Meta { key: MetaKey::Mark, to: *to });
    }
    exprs.push(Expr::SetMeta { key: MetaKey::Mark, from: SAVED_MARK });
    exprs
}

fn keep_bits(register: Reg, mask: u32, set: u32) -> Expr {
    let (mask, xor) = (mask.to_ne_bytes().to_vec(), set.to_ne_bytes().to_vec());
    Expr::Bitwise { from: register, to: register, mask, xor }
}

fn payload(base: PayloadBase, offset: u32, length: u32, to: Reg) -> Expr {
    Expr::Payload { base, offset, length, to }
}

pub(crate) const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);
