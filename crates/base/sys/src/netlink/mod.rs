//! Netlink messages and sockets: the bytes under `route`, `nft` and `conntrack`.
//!
//! Blocking on purpose: the kernel answers inside the system call, in microseconds. Whoever sends large batches from an
//! async task does so on a blocking thread.

mod message;
mod socket;

pub use message::{Attribute, Attributes, Message, parse_messages};
pub use socket::{Error, Protocol, Reply, Socket};
