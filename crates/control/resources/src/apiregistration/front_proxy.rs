//! A request as it goes on to an aggregated server: who asks stands in headers, which that server believes because of this
//! server's certificate. Pure.

use std::fmt::Write as _;
use std::net::SocketAddr;

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue};
use machinery_registry::UserInfo;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A user whose name or group cannot stand in a header.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be told in a header")]
pub(super) struct Untellable(String);

/// Replaces all that a client may have said of who it is, and leaves out what is between it and this server alone.
pub(super) fn onward(
    headers: &mut HeaderMap,
    user: &UserInfo,
    path: &str,
    peer: Option<SocketAddr>,
) -> Result<(), Untellable> {
    let upgrade = headers.contains_key(UPGRADE);
    let host = headers.remove(HOST);
    let private = |name: &str| {
        matches!(
            name,
            "keep-alive" | "proxy-authenticate" | "proxy-authorization" | "te" | "trailer" | "transfer-encoding"
        ) || name == AUTHORIZATION.as_str()
            || name.starts_with("impersonate-")
            || name.starts_with(EXTRA)
            || [USER, UID, GROUP].iter().any(|known| known.as_str() == name)
            || (!upgrade && name == CONNECTION.as_str())
    };
    let dropped: Vec<HeaderName> = headers.keys().filter(|name| private(name.as_str())).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Untellable(text.to_owned()));
    headers.insert(USER, value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert(UID, value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append(GROUP, value(group)?);
    }
    for (key, values) in &user.extra {
        let name = HeaderName::try_from(format!("{EXTRA}{}", escaped(key))).map_err(|_| Untellable(key.clone()))?;
        for text in values {
            headers.append(&name, value(text)?);
        }
    }
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    headers.insert("x-forwarded-uri", value(path)?);
    if let Some(peer) = peer {
        let before = headers.get(&FORWARDED_FOR).and_then(|before| before.to_str().ok());
        let chain = before.map_or_else(|| peer.ip().to_string(), |before| format!("{before}, {}", peer.ip()));
        headers.insert(FORWARDED_FOR, value(&chain)?);
    }
    Ok(())
}

/// What may not stand in a header's name, and the percent sign itself, as `%XX`.
fn escaped(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let mut escaped = String::new();
    for byte in key.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing into a String does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserInfo {
        UserInfo {
            name: "jane".into(),
            uid: "7".into(),
            groups: vec!["a".into(), "b".into()],
            extra: [("example.com/Scopes%".to_owned(), vec!["x".to_owned(), "y".to_owned()])].into(),
        }
    }

    fn sent(pairs: &[(&'static str, &str)]) -> Vec<(String, String)> {
        let mut headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")))
            .collect();
        onward(&mut headers, &user(), "/apis/x", Some(([10, 0, 0, 9], 4711).into())).expect("tellable");
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        all.sort();
        all
    }

    #[test]
    fn who_asks_is_told_and_nothing_else_is_believed() {
        let client = [
            ("authorization", "Bearer t"),
            ("x-remote-user", "admin"),
            ("x-remote-uid", "0"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-scopes", "all"),
            ("impersonate-user", "admin"),
            ("connection", "keep-alive"),
            ("host", "api.example:6443"),
            ("accept", "*/*"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        let expected = [
            ("accept", "*/*"),
            ("x-forwarded-for", "192.0.2.1, 10.0.0.9"),
            ("x-forwarded-host", "api.example:6443"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-uri", "/apis/x"),
            ("x-remote-extra-example.com%2fscopes%25", "x"),
            ("x-remote-extra-example.com%2fscopes%25", "y"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-uid", "7"),
            ("x-remote-user", "jane"),
        ];
        assert_eq!(sent(&client), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_upgrade_keeps_what_it_needs() {
        let all = sent(&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")]);
        for name in ["connection", "upgrade", "sec-websocket-key"] {
            assert!(all.iter().any(|(known, _)| known == name), "{name}");
        }
    }

    #[test]
    fn a_name_that_breaks_a_header_is_an_error() {
        let bad = UserInfo { name: "a\r\nx-remote-group: b".into(), ..UserInfo::default() };
        assert!(onward(&mut HeaderMap::new(), &bad, "/", None).is_err());
    }
}
