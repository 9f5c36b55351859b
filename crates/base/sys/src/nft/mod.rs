//! nftables over nfnetlink: our own small encoder, since no crate covers data maps and number generators.
//!
//! [`Batch`] collects what one transaction does; [`Nft::commit`] sends it. The kernel applies all of it or nothing.
//! Everything here writes; the few reads (`NFT_MSG_GET*` dumps) serve start-up and foreign-rule warnings only.

mod batch;
mod expr;
mod read;
mod set;

pub use batch::{Batch, Chain, ChainKind, Error, Hook, Nft, Rule};
pub use expr::{
    Cmp, CtKey, Direction, Expr, FibResult, MetaKey, NatKind, NfProto, PayloadBase, Port, Reg, Reject, TupleField,
    Verdict,
};
pub use read::{ForwardDrop, StoredElement, StoredRule};
pub use set::{Data, DataKind, Element, Expiry, Set, Type, concat};

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Inet,
    Ipv4,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
        }
    }

    /// Of an answer's header; `None` where IPv4 is not seen.
    fn of(body: &[u8]) -> Option<Self> {
        match body.first() {
            Some(1) => Some(Self::Inet),
            Some(2) => Some(Self::Ipv4),
            _ => None,
        }
    }
}
