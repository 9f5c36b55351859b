//! Pieces of rules, so that `layout` reads like the table it writes.
//!
//! Register 15 holds whatever is compared at once.

use base_sys::nft::{Cmp, Expr, FibResult, MetaKey, PayloadBase, Reg};
use base_sys::route::IpCidr;

use crate::frontend::Family;
use crate::shape::{KEY, octets};

/// The packet comes from outside and goes to an address of the outside: external traffic policies bind it.
pub(crate) const EXTERNAL: u32 = 0x0010_0000;
/// The packet comes from outside: unless a pod of this node answers it, it must come back through this node.
const MASQUERADE: u32 = 0x0020_0000;
/// The bits of the packet mark that are ours, between prerouting and postrouting of a connection's first packet.
const OWNED: u32 = EXTERNAL | MASQUERADE;

const RTN_LOCAL: u32 = 2;
const SCRATCH: Reg = Reg::new(15);
pub(crate) const SAVED_MARK: Reg = Reg::new(8);

/// In a table for both families, whatever reads addresses first says which.
pub(crate) fn family_is(family: Family) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::NfProto, to: SCRATCH },
        Expr::Cmp { from: SCRATCH, op: Cmp::Eq, value: vec![family.proto() as u8] },
    ]
}

pub(crate) fn source_in(block: IpCidr, op: Cmp) -> [Expr; 3] {
    address_in(Family::of(block.network()).source_offset(), block, op)
}

pub(crate) fn destination_in(block: IpCidr, op: Cmp) -> [Expr; 3] {
    address_in(Family::of(block.network()).destination_offset(), block, op)
}

/// An IPv6 address takes four registers.
const ADDRESS: Reg = Reg::new(12);

fn address_in(offset: u32, block: IpCidr, op: Cmp) -> [Expr; 3] {
    let length = Family::of(block.network()).length();
    [
        payload(PayloadBase::Network, offset, length, ADDRESS),
        Expr::Bitwise { from: ADDRESS, to: ADDRESS, mask: octets(block.mask()), xor: vec![0; length as usize] },
        Expr::Cmp { from: ADDRESS, op, value: octets(block.network()) },
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
pub(crate) fn load_both_addresses(family: Family) -> [Expr; 2] {
    let length = family.length();
    [
        payload(PayloadBase::Network, family.source_offset(), length, KEY),
        payload(PayloadBase::Network, family.destination_offset(), length, Reg::new(family.registers())),
    ]
}

/// Destination address and itself as one key in register 0.
pub(crate) fn load_destination_twice(family: Family) -> [Expr; 2] {
    let load = |to| payload(PayloadBase::Network, family.destination_offset(), family.length(), to);
    [load(KEY), load(Reg::new(family.registers()))]
}

/// Whether the packet leaves through a link whose name does not start so.
pub(crate) fn leaves_other_than(prefix: &str) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::OifName, to: KEY },
        Expr::Cmp { from: KEY, op: Cmp::Ne, value: prefix.as_bytes().to_vec() },
    ]
}

/// Whether the packet leaves through the link of this name.
pub(crate) fn leaves_by(name: &str) -> [Expr; 2] {
    // With its terminating zero: the whole name is compared.
    let value = name.bytes().chain([0]).collect();
    [Expr::Meta { key: MetaKey::OifName, to: KEY }, Expr::Cmp { from: KEY, op: Cmp::Eq, value }]
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

pub(crate) fn keep_bits(register: Reg, mask: u32, set: u32) -> Expr {
    let (mask, xor) = (mask.to_ne_bytes().to_vec(), set.to_ne_bytes().to_vec());
    Expr::Bitwise { from: register, to: register, mask, xor }
}

pub(crate) fn payload(base: PayloadBase, offset: u32, length: u32, to: Reg) -> Expr {
    Expr::Payload { base, offset, length, to }
}
