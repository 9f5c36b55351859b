//! What a node joins with: `K10<hash>::<id>.<secret>`, k3s's form. The hash says which server may be believed, the rest
//! makes the server believe the node.

use std::fmt;
use std::str::FromStr;

use api::bootstrap_token;

const PREFIX: &str = "K10";

#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Of the certificate of the cluster's authority: see [`crate::trust::Trust::hash`].
    pub authority: String,
    /// `abcdef.0123456789abcdef`.
    pub bearer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error(
        "the token does not say whose it is: expected K10<hash>::<id>.<secret>, as `sampan token create` prints it on the \
         server's host"
    )]
    NoHash,
    #[error("the hash in the token is not one: expected 64 hexadecimal digits between K10 and ::")]
    Hash,
    #[error("what follows :: in the token is no bootstrap token: expected abcdef.0123456789abcdef")]
    Bearer,
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let (hash, bearer) = text.trim().split_once("::").ok_or(BadToken::NoHash)?;
        let hash = hash.strip_prefix(PREFIX).ok_or(BadToken::NoHash)?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BadToken::Hash);
        }
        bootstrap_token::parse(bearer).ok_or(BadToken::Bearer)?;
        Ok(Self { authority: hash.to_ascii_lowercase(), bearer: bearer.to_owned() })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}::{}", self.authority, self.bearer)
    }
}

/// It is a secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// The bootstrap token of either form.
pub fn bearer(text: &str) -> &str {
    text.split_once("::").filter(|(hash, _)| hash.starts_with(PREFIX)).map_or(text, |(_, bearer)| bearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_both_ways_and_bad_ones_are_explained() {
        let hash = "0123456789abcdef".repeat(4);
        let text = format!("K10{hash}::abcdef.0123456789abcdef");
        let token: JoinToken = text.parse().expect("a token");
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("abcdef.0"), "{token:?}");
        assert_eq!((bearer(&text), bearer("abcdef.x")), ("abcdef.0123456789abcdef", "abcdef.x"));
        for (bad, why) in [
            ("", BadToken::NoHash),
            ("abcdef.0123456789abcdef", BadToken::NoHash),
            ("X::abcdef.0123456789abcdef", BadToken::NoHash),
            ("K10abc::abcdef.0123456789abcdef", BadToken::Hash),
            (&format!("K10{hash}::abcdef"), BadToken::Bearer),
        ] {
            assert_eq!(bad.parse::<JoinToken>().expect_err("refused"), why, "{bad}");
        }
    }
}
