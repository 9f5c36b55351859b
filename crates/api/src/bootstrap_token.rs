//! Bootstrap tokens: Secrets of `kube-system` by which who joins the cluster proves itself for a while.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::Value;

pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
pub const NAMESPACE: &str = "kube-system";
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// Of whom every token's holder is.
pub const GROUP: &str = "system:bootstrappers";
/// Of whom holders of a cluster's own tokens are besides: they may join nodes.
pub const JOINING: &str = "system:bootstrappers:sampan:default-node-token";
pub const USER_PREFIX: &str = "system:bootstrap:";

pub const ID: &str = "token-id";
pub const SECRET: &str = "token-secret";
pub const EXPIRATION: &str = "expiration";
pub const DESCRIPTION: &str = "description";
pub const EXTRA_GROUPS: &str = "auth-extra-groups";
pub const USAGE_AUTHENTICATION: &str = "usage-bootstrap-authentication";
pub const USAGE_SIGNING: &str = "usage-bootstrap-signing";

/// The id and the secret of `abcdef.0123456789abcdef`; `None`: it is no such token.
pub fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// One of the Secret's `data`, decoded; empty where there is none.
pub fn datum(secret: &Value, key: &str) -> String {
    let bytes: Option<ByteString> = serde_json::from_value(secret["data"][key].clone()).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Never,
    In(Duration),
    /// Past, or not readable as a time.
    Past,
}

pub fn expiry(secret: &Value, now: Timestamp) -> Expiry {
    let text = datum(secret, EXPIRATION);
    if text.is_empty() {
        return Expiry::Never;
    }
    let left = text.parse::<Timestamp>().ok().map(|end| end.duration_since(now)).filter(|left| left.is_positive());
    left.and_then(|left| left.try_into().ok()).map_or(Expiry::Past, Expiry::In)
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bootstrap group {0:?} is invalid (must match \\Asystem:bootstrappers:[a-z0-9:-]{{0,255}}[a-z0-9]\\z)")]
pub struct BadGroup(String);

/// The groups of a token's holder.
pub fn groups(secret: &Value) -> Result<Vec<String>, BadGroup> {
    let mut groups = vec![GROUP.to_owned()];
    let extra = datum(secret, EXTRA_GROUPS);
    for group in extra.split(',').map(str::trim).filter(|_| !extra.is_empty()) {
        let rest = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')).unwrap_or("");
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':' || byte == b'-';
        let last = rest.bytes().last().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !last || rest.len() > 256 || !rest.bytes().all(known) {
            return Err(BadGroup(group.to_owned()));
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(key: &str, value: &str) -> Value {
        json!({"data": {key: ByteString(value.as_bytes().to_vec())}})
    }

    #[test]
    fn tokens_have_one_form() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for bad in [
            "",
            "abcdef",
            "abcde.0123456789abcdef",
            "abcdef.0123456789abcde",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde.",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_that_is_none_is_past() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let table = [
            ("", Expiry::Never),
            ("2026-01-01T00:01:00Z", Expiry::In(Duration::from_secs(60))),
            ("2026-01-01T02:01:00+02:00", Expiry::In(Duration::from_secs(60))),
            ("2025-12-31T23:59:59Z", Expiry::Past),
            ("2026-01-01T00:00:00Z", Expiry::Past),
            ("tomorrow", Expiry::Past),
        ];
        for (text, expected) in table {
            assert_eq!(expiry(&secret(EXPIRATION, text), now), expected, "{text}");
        }
        assert_eq!(expiry(&json!({"data": {"expiration": "?"}}), now), Expiry::Never);
    }

    #[test]
    fn groups_are_of_bootstrappers() {
        let of = |text| groups(&secret(EXTRA_GROUPS, text));
        assert_eq!(of(""), Ok(vec![GROUP.to_owned()]));
        let two = vec![GROUP.to_owned(), "system:bootstrappers:a".to_owned(), "system:bootstrappers:b:c".to_owned()];
        assert_eq!(of("system:bootstrappers:b:c,system:bootstrappers:a"), Ok(two));
        for bad in ["system:masters", "system:bootstrappers:", "system:bootstrappers:A", "system:bootstrappers:a,"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
