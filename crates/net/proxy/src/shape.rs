//! The maps that front ends are in, and their keys.
//!
//! Registers: a front end's key begins at 0 and its slot or client follows; what a slot holds begins at 11; 8 saves the
//! mark while a count passes through it.

use std::net::IpAddr;

use base_sys::nft::{Element, Expr, MetaKey, NfProto, PayloadBase, Reg, Type, concat};
use base_sys::route::IpCidr;

use crate::frontend::{Endpoint, Family, Frontend, FrontendAddress, Origin, Otherwise};
use crate::pick::{Choice, Pick};
use crate::rules::{EXTERNAL, SAVED_MARK, family_is, keep_bits, payload};

const DESTINATION_PORT: u32 = 2;
pub(crate) const KEY: Reg = Reg::new(0);
/// What a slot holds; its port follows the address.
pub(crate) const ENDPOINT: Reg = Reg::new(ENDPOINT_INDEX);
const ENDPOINT_INDEX: u32 = 11;

impl Family {
    pub(crate) fn proto(self) -> NfProto {
        match self {
            Self::V4 => NfProto::Ipv4,
            Self::V6 => NfProto::Ipv6,
        }
    }

    pub(crate) fn address_type(self) -> Type {
        match self {
            Self::V4 => Type::Ipv4Address,
            Self::V6 => Type::Ipv6Address,
        }
    }

    /// Bytes of an address.
    pub(crate) fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Registers that an address takes.
    pub(crate) fn registers(self) -> u32 {
        self.length() / 4
    }

    /// Where the source address is in the packet's header.
    pub(crate) fn source_offset(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    pub(crate) fn destination_offset(self) -> u32 {
        self.source_offset() + self.length()
    }

    /// The source address of a pod that reaches itself, by source and destination.
    pub(crate) fn hairpins(self) -> &'static str {
        match self {
            Self::V4 => "hairpins",
            Self::V6 => "hairpins6",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Keyed by origin, address, protocol and port.
    Address,
    /// Keyed by origin, protocol and port.
    NodePort,
}

/// The kinds of front ends, each for both families. Each has its own maps and chains, since their keys differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) family: Family,
}

impl Shape {
    pub(crate) const ALL: [Self; 4] = [
        Self { kind: Kind::Address, family: Family::V4 },
        Self { kind: Kind::NodePort, family: Family::V4 },
        Self { kind: Kind::Address, family: Family::V6 },
        Self { kind: Kind::NodePort, family: Family::V6 },
    ];

    pub(crate) fn of(frontend: &Frontend) -> Self {
        let kind = match frontend.address {
            FrontendAddress::Ip(_) => Kind::Address,
            FrontendAddress::Node(_) => Kind::NodePort,
        };
        Self { kind, family: frontend.family() }
    }

    /// What the names of its maps and chains begin with.
    fn name(self) -> &'static str {
        match (self.kind, self.family) {
            (Kind::Address, Family::V4) => "service",
            (Kind::NodePort, Family::V4) => "node-port",
            (Kind::Address, Family::V6) => "service6",
            (Kind::NodePort, Family::V6) => "node-port6",
        }
    }

    /// Front end → [`Pick::code`]: how many endpoints it has.
    pub(crate) fn counts(self) -> String {
        format!("{}-counts", self.name())
    }

    /// Front end and slot → endpoint.
    pub(crate) fn slots(self) -> String {
        format!("{}-slots", self.name())
    }

    /// [`Pick::code`] → the chain that picks so.
    pub(crate) fn picks(self) -> String {
        format!("{}-picks", self.name())
    }

    /// Front end and client → the endpoint that the client got before. Filled by the kernel.
    pub(crate) fn affinities(self) -> String {
        format!("{}-affinity", self.name())
    }

    /// Front end and clients that may come.
    pub(crate) fn sources(self) -> String {
        format!("{}-sources", self.name())
    }

    /// The chain that picks an endpoint.
    pub(crate) fn pick_chain(self, pick: Pick) -> String {
        let name = self.name();
        let guarded = if pick.is_guarded() { "-guarded" } else { "" };
        match pick.choice() {
            Choice::None(Otherwise::Refuse) => format!("{name}-refuse{guarded}"),
            Choice::None(Otherwise::Drop) => format!("{name}-drop{guarded}"),
            Choice::Among { count, affinity: None } => format!("{name}-pick-{count}{guarded}"),
            Choice::Among { count, affinity: Some(affinity) } => {
                format!("{name}-pick-{count}-for-{}s{guarded}", affinity.seconds())
            }
        }
    }

    pub(crate) fn key_types(self) -> Vec<Type> {
        match self.kind {
            Kind::Address => vec![Type::Mark, self.family.address_type(), Type::Protocol, Type::Port],
            Kind::NodePort => vec![Type::Mark, Type::Protocol, Type::Port],
        }
    }

    /// Of a key with one more field.
    pub(crate) fn key_types_and(self, last: Type) -> Vec<Type> {
        self.key_types().into_iter().chain([last]).collect()
    }

    /// What a slot holds.
    pub(crate) fn endpoint_types(self) -> Vec<Type> {
        vec![self.family.address_type(), Type::Port]
    }

    /// Loads the packet's key. Registers 0 on; the slot goes into [`Shape::slot_register`].
    pub(crate) fn load_key(self) -> Vec<Expr> {
        let mut exprs = family_is(self.family).to_vec();
        exprs.push(Expr::Meta { key: MetaKey::Mark, to: KEY });
        exprs.push(keep_bits(KEY, EXTERNAL, 0));
        let mut next = 1;
        if self.kind == Kind::Address {
            let (offset, length) = (self.family.destination_offset(), self.family.length());
            exprs.push(payload(PayloadBase::Network, offset, length, Reg::new(next)));
            next += self.family.registers();
        }
        exprs.push(Expr::Meta { key: MetaKey::L4Proto, to: Reg::new(next) });
        exprs.push(payload(PayloadBase::Transport, DESTINATION_PORT, 2, Reg::new(next + 1)));
        exprs
    }

    /// The field after the front end: a slot or a client.
    pub(crate) fn slot_register(self) -> Reg {
        match self.kind {
            Kind::Address => Reg::new(3 + self.family.registers()),
            Kind::NodePort => Reg::new(3),
        }
    }

    /// Loads the client's address behind the front end's key.
    pub(crate) fn load_client(self) -> Vec<Expr> {
        let (offset, length) = (self.family.source_offset(), self.family.length());
        vec![payload(PayloadBase::Network, offset, length, self.slot_register())]
    }

    pub(crate) fn endpoint_port(self) -> Reg {
        Reg::new(ENDPOINT_INDEX + self.family.registers())
    }

    /// Passes the endpoint's registers through the packet's mark, back to where they are: `nft list` cannot print a
    /// lookup's result as an element's data, and aborts; this way it is a mark. The mark is as before afterwards, and
    /// nothing in between can end the rule. All sixteen registers may be in use: the mark waits in the key's first,
    /// which is a part of it.
    pub(crate) fn wash_endpoint(self) -> Vec<Expr> {
        let mut exprs = vec![Expr::Meta { key: MetaKey::Mark, to: KEY }];
        for index in 0..=self.family.registers() {
            let register = Reg::new(ENDPOINT_INDEX + index);
            exprs.push(Expr::SetMeta { key: MetaKey::Mark, from: register });
            exprs.push(Expr::Meta { key: MetaKey::Mark, to: register });
        }
        exprs.push(Expr::SetMeta { key: MetaKey::Mark, from: KEY });
        exprs.push(keep_bits(KEY, EXTERNAL, 0));
        exprs
    }

    /// Goes where the front end's count says; a packet to no front end goes on.
    ///
    /// The count passes through the packet's mark, which is put back in the same rule: `nft list` cannot print a
    /// lookup whose key is another lookup's result, and aborts.
    pub(crate) fn dispatch(self) -> Vec<Expr> {
        let mut exprs = vec![Expr::Meta { key: MetaKey::Mark, to: SAVED_MARK }];
        exprs.extend(self.load_key());
        exprs.extend([
            Expr::Load { map: self.counts(), key: KEY, to: KEY },
            Expr::SetMeta { key: MetaKey::Mark, from: KEY },
            Expr::Meta { key: MetaKey::Mark, to: KEY },
            Expr::SetMeta { key: MetaKey::Mark, from: SAVED_MARK },
            Expr::Dispatch { map: self.picks(), key: KEY },
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
            FrontendAddress::Ip(IpAddr::V4(ip)) => concat(&[&class, &ip.octets(), &protocol, &port]),
            FrontendAddress::Ip(IpAddr::V6(ip)) => concat(&[&class, &ip.octets(), &protocol, &port]),
            FrontendAddress::Node(_) => concat(&[&class, &protocol, &port]),
        };
        if let Some(slot) = slot {
            key.extend_from_slice(&slot.to_ne_bytes());
        }
        key
    }

    /// A block of clients that may come to a front end, as an element.
    pub(crate) fn source(self, frontend: &Frontend, block: IpCidr) -> Element {
        let from = |client| [Self::key(frontend, None), octets(client)].concat();
        Element::range(from(block.network()), from(block.last()))
    }

    /// A key without the client's address at its end.
    pub(crate) fn frontend_of(self, key: &[u8]) -> Option<&[u8]> {
        key.len().checked_sub(self.family.length() as usize).map(|end| &key[..end])
    }
}

/// An endpoint as an element's data.
pub(crate) fn endpoint_data(endpoint: &Endpoint) -> Vec<u8> {
    concat(&[&octets(endpoint.ip), &endpoint.port.to_be_bytes()])
}

pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
