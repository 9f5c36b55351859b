//! exec and attach over WebSocket: the subprotocols, their frames, and the pumping between client and process.

mod frame;
mod outcome;
mod session;

use http::HeaderMap;
use http::header::{CONNECTION, UPGRADE};

pub use session::serve;

/// Remote-command subprotocols, preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// Adds the closing of single channels to v4.
    V5,
    V4,
}

impl Subprotocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    #[error("exec and attach need a WebSocket upgrade: unable to upgrade: missing upgrade headers in request")]
    Missing,
    #[error(
        "SPDY/3.1 streams are not supported by this node; use a client that speaks WebSocket (kubectl 1.31 or newer)"
    )]
    Spdy,
    #[error("WebSocket version 13 with a key is needed")]
    Handshake,
    #[error("unable to upgrade: no common subprotocol, this node speaks v5.channel.k8s.io and v4.channel.k8s.io")]
    Subprotocol,
}

/// What to answer to a request that wants streams: the subprotocol and the accepted key.
pub fn negotiate(headers: &HeaderMap) -> Result<(Subprotocol, String), UpgradeError> {
    let tokens = |name: http::header::HeaderName| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',').map(|token| token.trim().to_ascii_lowercase())).collect::<Vec<_>>()
    };
    let upgrade = tokens(UPGRADE);
    if !tokens(CONNECTION).iter().any(|token| token == "upgrade") || upgrade.is_empty() {
        return Err(UpgradeError::Missing);
    }
    if upgrade.iter().any(|token| token.starts_with("spdy/")) {
        return Err(UpgradeError::Spdy);
    }
    let key = headers.get("sec-websocket-key");
    let version = headers.get("sec-websocket-version").is_some_and(|version| version == "13");
    let (true, true, Some(key)) = (upgrade.iter().any(|token| token == "websocket"), version, key) else {
        return Err(UpgradeError::Handshake);
    };
    let offered = tokens(http::header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = [Subprotocol::V5, Subprotocol::V4].into_iter().find(|ours| offered.iter().any(|o| o == ours.name()));
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    Ok((chosen.ok_or(UpgradeError::Subprotocol)?, accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const HANDSHAKE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    #[test]
    fn the_newest_common_subprotocol_is_taken() {
        let mut map = headers(&HANDSHAKE);
        assert_eq!(negotiate(&map), Err(UpgradeError::Subprotocol));
        map.insert("sec-websocket-protocol", "channel.k8s.io, v4.channel.k8s.io".parse().unwrap());
        let (protocol, accept) = negotiate(&map).unwrap();
        assert_eq!((protocol, accept.as_str()), (Subprotocol::V4, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        map.append("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
        assert_eq!(negotiate(&map).unwrap().0, Subprotocol::V5);
    }

    #[test]
    fn what_cannot_be_upgraded_says_why() {
        assert_eq!(negotiate(&headers(&[])), Err(UpgradeError::Missing));
        let spdy = headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        assert_eq!(negotiate(&spdy), Err(UpgradeError::Spdy));
        let keyless = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(negotiate(&keyless), Err(UpgradeError::Handshake));
    }
}
