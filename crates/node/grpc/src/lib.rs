//! gRPC as a node speaks it: one request, one answer, over a socket of this host or of a pod, without TLS.
//!
//! Where the node asks, a connection lives for one call: calls are rare, and a driver that was replaced behind its socket is
//! found at once. Where it is asked ([`server`]), a connection has as many calls as its client likes.
//! [`messages`] holds the messages of the interfaces that are spoken so. May depend on `base` alone.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod frame;
pub mod messages;
pub mod server;
mod status;
mod timeout;

pub use client::{Call, Stream, call};
pub use frame::{framed, unframed};
pub use prost::Message;
pub use status::{Code, Status};

#[cfg(test)]
mod tests;
