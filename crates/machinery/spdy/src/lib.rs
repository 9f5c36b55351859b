//! SPDY/3.1: what kubectl before 1.31 speaks on an upgraded connection, and what later ones send through a WebSocket to
//! forward ports; a node asks container runtimes for commands the same way.
//!
//! [`Decoder`] and [`Encoder`] turn bytes into frames and back without any I/O; [`serve`] and [`call`] run one connection on top
//! of them, as the server or the client. Knows streams and their headers, not what they carry. See the README beside this crate.

mod compression;
mod decode;
mod dictionary;
mod encode;
mod frame;
mod headers;
#[cfg(any(test, feature = "test-util"))]
mod peer;
mod session;

pub use compression::CompressionError;
pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;
pub use frame::{Frame, GoAwayStatus, ResetStatus, StreamId};
pub use headers::Headers;
#[cfg(any(test, feature = "test-util"))]
pub use peer::Peer;
pub use session::{Error, Gone, Incoming, Opener, Reader, Stream, Writer, call, serve};
