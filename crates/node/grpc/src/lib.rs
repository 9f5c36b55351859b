//! gRPC as a node speaks it: one request, one answer, over a socket of this host or of a pod, without TLS.
//!
//! A connection lives for one call: calls are rare, and a driver that was replaced behind its socket is found at once.
//! [`messages`] holds the messages of the interfaces that are spoken so. May depend on `base` alone.

// A test that unwraps fails where it should.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod frame;
pub mod messages;
#[cfg(feature = "test-util")]
pub mod server;
mod status;

pub use client::{Call, Stream, call};
pub use frame::{framed, unframed};
pub use prost::Message;
pub use status::{Code, Status};

#[cfg(test)]
mod tests;
