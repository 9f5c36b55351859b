//! A rule's expressions: what the kernel's small virtual machine executes, register by register.
//!
//! Names and numbers are those of `linux/netfilter/nf_tables.h`.

use std::time::Duration;

use super::set::{milliseconds, put_data};
use crate::netlink::Message;

/// One of the sixteen 32-bit registers. A concatenated key occupies consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u32);

impl Reg {
    /// Register `index` of 16.
    ///
    /// # Panics
    /// When `index` is above 15: register numbers are constants of the rules we write.
    pub const fn new(index: u32) -> Self {
        assert!(index < 16);
        Self(8 + index)
    }

    const VERDICT: u32 = 0;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    Mark = 3,
    IifName = 6,
    OifName = 7,
    NfProto = 15,
    L4Proto = 16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    Network = 1,
    Transport = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmp {
    Eq = 0,
    Ne = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    State = 0,
    Status = 2,
}

/// A part of the two tuples that connection tracking knows a flow by: who began it and whom it sent to, and, in the other
/// direction, who answers (after translation) and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleField {
    /// 16 bits; of protocols without ports some other number.
    SourcePort = 11,
    /// Ends the rule for a flow of the other family.
    SourceIpv4 = 19,
    SourceIpv6 = 21,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Original = 0,
    Reply = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    /// The routing table's type of the address: local, unicast, …
    AddressType = 3,
}

/// A packet's family, as [`MetaKey::NfProto`] loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NfProto {
    Ipv4 = 2,
    Ipv6 = 10,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Source = 0,
    Destination = 1,
}

/// What becomes of a translated flow's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The same, where no other flow has it.
    Kept,
    Given(Reg),
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    TcpReset,
    /// "Port unreachable" in the packet's own family.
    PortUnreachable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Meta {
        key: MetaKey,
        to: Reg,
    },
    SetMeta {
        key: MetaKey,
        from: Reg,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Reg,
    },
    Cmp {
        from: Reg,
        op: Cmp,
        value: Vec<u8>,
    },
    Bitwise {
        from: Reg,
        to: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Immediate {
        to: Reg,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// Is the key in the set? `negate` asks the opposite.
    Contains {
        set: String,
        key: Reg,
        negate: bool,
    },
    /// Loads the key's data; a miss ends the rule.
    Load {
        map: String,
        key: Reg,
        to: Reg,
    },
    /// Follows the key's verdict; a miss ends the rule.
    Dispatch {
        map: String,
        key: Reg,
    },
    /// Adds key and data to a dynamic map; where the key is there already, its data stays and its time begins anew.
    /// A full map ends the rule.
    Update {
        map: String,
        key: Reg,
        data: Reg,
        timeout: Duration,
    },
    Random {
        modulus: u32,
        to: Reg,
    },
    Nat {
        kind: NatKind,
        family: NfProto,
        address: Reg,
        port: Port,
    },
    /// To the address of the link that it leaves by. Flows end when that changes.
    Masquerade,
    /// Of the destination address.
    Fib {
        result: FibResult,
        to: Reg,
    },
    Ct {
        key: CtKey,
        to: Reg,
    },
    /// Ends the rule for a packet of no flow.
    CtTuple {
        field: TupleField,
        direction: Direction,
        to: Reg,
    },
    Reject(Reject),
}

const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const LIST_ELEM: u16 = 1;
const FIB_DADDR: u32 = 1 << 1;
const DYNSET_UPDATE: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`
const NAT_PORT_GIVEN: u32 = 1 << 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: ports of connections with one source must not collide between CPUs.
const NAT_RANDOM_FULLY: u32 = 1 << 4;

impl Expr {
    /// Appends this expression as one list element.
    pub(super) fn encode(&self, message: &mut Message) {
        message.nest(LIST_ELEM, |m| {
            m.put_str(EXPR_NAME, self.name());
            m.nest(EXPR_DATA, |m| self.encode_body(m));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Contains { .. } | Self::Load { .. } | Self::Dispatch { .. } => "lookup",
            Self::Update { .. } => "dynset",
            Self::Random { .. } => "numgen",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Fib { .. } => "fib",
            Self::Ct { .. } | Self::CtTuple { .. } => "ct",
            Self::Reject(_) => "reject",
        }
    }

    fn encode_body(&self, m: &mut Message) {
        match self {
            Self::Meta { key, to } => m.put_be32(2, *key as u32).put_be32(1, to.0),
            Self::SetMeta { key, from } => m.put_be32(2, *key as u32).put_be32(3, from.0),
            Self::Payload { base, offset, length, to } => {
                m.put_be32(1, to.0).put_be32(2, *base as u32).put_be32(3, *offset).put_be32(4, *length)
            }
            Self::Cmp { from, op, value } => {
                m.put_be32(1, from.0).put_be32(2, *op as u32).nest(3, |m| put_value(m, value))
            }
            Self::Bitwise { from, to, mask, xor } => m
                .put_be32(1, from.0)
                .put_be32(2, to.0)
                .put_be32(3, u32::try_from(mask.len()).expect("a mask fits the registers"))
                .nest(4, |m| put_value(m, mask))
                .nest(5, |m| put_value(m, xor)),
            Self::Immediate { to, value } => m.put_be32(1, to.0).nest(2, |m| put_value(m, value)),
            Self::Verdict(verdict) => m.put_be32(1, Reg::VERDICT).nest(2, |m| put_data(m, verdict)),
            Self::Contains { set, key, negate } => m.put_str(1, set).put_be32(2, key.0).put_be32(5, u32::from(*negate)),
            Self::Load { map, key, to } => m.put_str(1, map).put_be32(2, key.0).put_be32(3, to.0),
            Self::Dispatch { map, key } => m.put_str(1, map).put_be32(2, key.0).put_be32(3, Reg::VERDICT),
            Self::Update { map, key, data, timeout } => m
                .put_str(1, map)
                .put_be32(3, DYNSET_UPDATE)
                .put_be32(4, key.0)
                .put_be32(5, data.0)
                .put_be64(6, milliseconds(*timeout)),
            Self::Random { modulus, to } => m.put_be32(1, to.0).put_be32(2, *modulus).put_be32(3, 1),
            Self::Nat { kind, family, address, port } => {
                m.put_be32(1, *kind as u32).put_be32(2, *family as u32).put_be32(3, address.0);
                match port {
                    Port::Kept => m,
                    Port::Given(port) => m.put_be32(5, port.0).put_be32(7, NAT_PORT_GIVEN),
                    Port::Random => m.put_be32(7, NAT_RANDOM_FULLY),
                }
            }
            Self::Masquerade => m.put_be32(1, NAT_RANDOM_FULLY),
            Self::Fib { result, to } => m.put_be32(1, to.0).put_be32(2, *result as u32).put_be32(3, FIB_DADDR),
            Self::Ct { key, to } => m.put_be32(1, to.0).put_be32(2, *key as u32),
            Self::CtTuple { field, direction, to } => {
                m.put_be32(1, to.0).put_be32(2, *field as u32).put_u8(3, *direction as u8)
            }
            Self::Reject(Reject::TcpReset) => m.put_be32(1, 1).put_u8(2, 0),
            // Type 2 is "icmpx": the code is the kernel's family-neutral one, 1 for port unreachable.
            Self::Reject(Reject::PortUnreachable) => m.put_be32(1, 2).put_u8(2, 1),
        };
    }
}

fn put_value(m: &mut Message, value: &[u8]) {
    m.put(1, value);
}
