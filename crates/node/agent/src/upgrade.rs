//! From a request that wants streams to the protocol that they are spoken in.

use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::response::Builder;
use http::{HeaderMap, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const VERSION: &str = "x-stream-protocol-version";
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";

/// What a resource can be spoken in, by the names that clients ask for. The first is taken whenever it is asked for; of
/// the others, the one that the client names first.
pub struct Offers<P: 'static> {
    /// The empty name: none was asked for.
    pub web_socket: &'static [(&'static str, P)],
    pub spdy: &'static [(&'static str, P)],
}

/// An upgrade that will be granted.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake<P> {
    pub protocol: P,
    name: &'static str,
    /// The answer to a WebSocket's key.
    accept: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    #[error("unable to upgrade: missing upgrade headers in request")]
    Missing,
    #[error("WebSocket version 13 with a key is needed")]
    WebSocket,
    #[error("requested protocol(s) are not supported: [{}]; supports [{}]", .asked.join(" "), .have.join(" "))]
    Subprotocol { asked: Vec<String>, have: Vec<&'static str> },
    #[error("unable to upgrade: X-Stream-Protocol-Version is required")]
    NoVersion,
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
        .asked.join(" "), .have.join(" ")
    )]
    Version { asked: Vec<String>, have: Vec<&'static str> },
}

impl<P: Copy> Offers<P> {
    /// What to answer to a request with these headers.
    pub fn negotiate(&self, headers: &HeaderMap) -> Result<Handshake<P>, UpgradeError> {
        let upgrade = tokens(headers, UPGRADE);
        let wants = |what: &str| upgrade.iter().any(|token| token.eq_ignore_ascii_case(what));
        if !tokens(headers, CONNECTION).iter().any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(UpgradeError::Missing);
        }
        if wants("spdy/3.1") {
            let asked = tokens(headers, HeaderName::from_static(VERSION));
            if asked.is_empty() {
                return Err(UpgradeError::NoVersion);
            }
            let Some((name, protocol)) = choose(self.spdy, &asked) else {
                return Err(UpgradeError::Version { asked, have: names(self.spdy) });
            };
            return Ok(Handshake { protocol, name, accept: None });
        }
        if !wants("websocket") {
            return Err(UpgradeError::Missing);
        }
        let version = headers.get("sec-websocket-version").is_some_and(|version| version == "13");
        let (true, Some(key)) = (version, headers.get("sec-websocket-key")) else {
            return Err(UpgradeError::WebSocket);
        };
        let mut asked = tokens(headers, SEC_WEBSOCKET_PROTOCOL);
        if asked.is_empty() {
            asked.push(String::new());
        }
        let Some((name, protocol)) = choose(self.web_socket, &asked) else {
            return Err(UpgradeError::Subprotocol { asked, have: names(self.web_socket) });
        };
        Ok(Handshake { protocol, name, accept: Some(derive_accept_key(key.as_bytes())) })
    }
}

impl<P> Handshake<P> {
    pub fn response(self) -> Builder {
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(CONNECTION, "Upgrade");
        match self.accept {
            None => response.header(UPGRADE, "SPDY/3.1").header(VERSION, self.name),
            Some(accept) => {
                let response = response.header(UPGRADE, "websocket").header(SEC_WEBSOCKET_ACCEPT, accept);
                if self.name.is_empty() { response } else { response.header(SEC_WEBSOCKET_PROTOCOL, self.name) }
            }
        }
    }
}

impl UpgradeError {
    /// The head of the answer, whose body is this error's text.
    pub fn response(&self) -> Builder {
        match self {
            Self::Missing | Self::WebSocket | Self::NoVersion => Response::builder().status(StatusCode::BAD_REQUEST),
            Self::Subprotocol { .. } => Response::builder().status(StatusCode::FORBIDDEN),
            Self::Version { have, .. } => {
                let response = Response::builder().status(StatusCode::FORBIDDEN);
                have.iter().fold(response, |response, name| response.header(ACCEPTED, *name))
            }
        }
    }
}

fn choose<P: Copy>(table: &[(&'static str, P)], asked: &[String]) -> Option<(&'static str, P)> {
    let find = |wanted: &String| table.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let first = table.first().filter(|(name, _)| asked.iter().any(|asked| asked.eq_ignore_ascii_case(name)));
    first.or_else(|| asked.iter().find_map(find)).copied()
}

fn names<P>(table: &[(&'static str, P)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect()
}

/// The values of a header that may be there several times, and be a list each time.
fn tokens(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    tokens.filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: Offers<u8> = Offers {
        web_socket: &[("v5.channel.k8s.io", 5), ("v4.channel.k8s.io", 4), ("channel.k8s.io", 1), ("", 0)],
        spdy: &[("v4.channel.k8s.io", 40), ("v3.channel.k8s.io", 30)],
    };

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    const WEB_SOCKET: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    #[test]
    fn the_clients_first_web_socket_protocol_is_taken_and_the_newest_before_it() {
        let mut map = headers(&WEB_SOCKET);
        for (asked, protocol, named) in [
            (None, 0, None),
            (Some("other, v4.channel.k8s.io, channel.k8s.io"), 4, Some("v4.channel.k8s.io")),
            (Some("channel.k8s.io,v4.channel.k8s.io"), 1, Some("channel.k8s.io")),
            (Some("channel.k8s.io, V5.channel.k8s.io"), 5, Some("v5.channel.k8s.io")),
        ] {
            if let Some(asked) = asked {
                map.insert(SEC_WEBSOCKET_PROTOCOL, asked.parse().unwrap());
            }
            let handshake = OFFERS.negotiate(&map).unwrap();
            assert_eq!(handshake.protocol, protocol);
            let response = handshake.response().body(()).unwrap();
            assert_eq!(response.status(), 101);
            assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let told = response.headers().get(SEC_WEBSOCKET_PROTOCOL).map(|name| name.to_str().unwrap());
            assert_eq!(told, named);
        }
        map.insert(SEC_WEBSOCKET_PROTOCOL, "v9.channel.k8s.io".parse().unwrap());
        let error = OFFERS.negotiate(&map).unwrap_err();
        let expected = "requested protocol(s) are not supported: [v9.channel.k8s.io]; \
                        supports [v5.channel.k8s.io v4.channel.k8s.io channel.k8s.io]";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.response().body(()).unwrap().status(), 403);
    }

    #[test]
    fn spdy_versions_come_in_one_header_or_several() {
        let mut map = headers(&[("connection", "upgrade"), ("upgrade", "SPDY/3.1")]);
        assert_eq!(OFFERS.negotiate(&map), Err(UpgradeError::NoVersion));
        map.append(VERSION, "v5.channel.k8s.io".parse().unwrap());
        let error = OFFERS.negotiate(&map).unwrap_err();
        let expected = "unable to upgrade: unable to negotiate protocol: client supports [v5.channel.k8s.io], \
                        server accepts [v4.channel.k8s.io v3.channel.k8s.io]";
        assert_eq!(error.to_string(), expected);
        let response = error.response().body(()).unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers().get_all(ACCEPTED).iter().count(), 2);
        map.append(VERSION, "v3.channel.k8s.io, v2.channel.k8s.io".parse().unwrap());
        let response = OFFERS.negotiate(&map).unwrap().response().body(()).unwrap();
        assert_eq!(response.headers()[UPGRADE], "SPDY/3.1");
        assert_eq!(response.headers()[VERSION], "v3.channel.k8s.io");
        map.append(VERSION, "v4.channel.k8s.io".parse().unwrap());
        assert_eq!(OFFERS.negotiate(&map).unwrap().protocol, 40);
    }

    #[test]
    fn what_cannot_be_upgraded_says_why() {
        assert_eq!(OFFERS.negotiate(&headers(&[])), Err(UpgradeError::Missing));
        assert_eq!(OFFERS.negotiate(&headers(&WEB_SOCKET[1..])), Err(UpgradeError::Missing));
        let other = headers(&[("connection", "Upgrade"), ("upgrade", "h2c")]);
        assert_eq!(OFFERS.negotiate(&other), Err(UpgradeError::Missing));
        assert_eq!(OFFERS.negotiate(&headers(&WEB_SOCKET[..3])), Err(UpgradeError::WebSocket));
        assert_eq!(OFFERS.negotiate(&headers(&WEB_SOCKET[..2])), Err(UpgradeError::WebSocket));
        assert_eq!(UpgradeError::WebSocket.response().body(()).unwrap().status(), 400);
    }
}
