//! exec and attach: the subprotocols of old and new clients, and the pumping between client and process.
//!
//! WebSocket sessions have numbered channels ([`frame`]), SPDY sessions a stream for each; what a process's end looks like
//! to the client ([`outcome`]) is the same for both.

pub(crate) mod frame;
mod outcome;
mod output;
mod spdy;
mod web_socket;

use crate::streams::frame::Subprotocol;
use crate::upgrade::Offers;

pub use spdy::serve as serve_spdy;
pub(crate) use web_socket::part;
pub use web_socket::serve as serve_web_socket;

/// What a remote command is spoken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    WebSocket(Subprotocol),
    Spdy(Version),
}

/// Versions of remote commands over SPDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The end comes as a Status.
    V4,
    /// Terminals can change their size.
    V3,
    /// The end comes as text, and only if it is a bad one. Version 1 differs in a mistake of its servers alone.
    V2,
}

pub const OFFERS: Offers<Protocol> = Offers {
    web_socket: &[
        ("v5.channel.k8s.io", Protocol::WebSocket(Subprotocol::V5)),
        ("v4.channel.k8s.io", Protocol::WebSocket(Subprotocol::V4)),
        ("v4.base64.channel.k8s.io", Protocol::WebSocket(Subprotocol::V4Base64)),
        ("channel.k8s.io", Protocol::WebSocket(Subprotocol::V1)),
        ("base64.channel.k8s.io", Protocol::WebSocket(Subprotocol::V1Base64)),
        ("", Protocol::WebSocket(Subprotocol::V1)),
    ],
    spdy: &[
        ("v4.channel.k8s.io", Protocol::Spdy(Version::V4)),
        ("v3.channel.k8s.io", Protocol::Spdy(Version::V3)),
        ("v2.channel.k8s.io", Protocol::Spdy(Version::V2)),
        ("channel.k8s.io", Protocol::Spdy(Version::V2)),
    ],
};
