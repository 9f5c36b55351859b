//! Where the next page of a list begins: opaque to clients.

use base_meta::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use machinery_storage::Revision;
use serde::{Deserialize, Serialize};

/// Decoded `continue`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "v")]
    version: String,
    /// The revision that all pages show; absent once it has been compacted and the client goes on regardless.
    #[serde(rename = "rv", default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// The last key of the page before, without the collection's prefix.
    #[serde(rename = "start")]
    after: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    pub(crate) fn new(revision: Option<Revision>, prefix: &str, last: &str) -> Self {
        let after = last.strip_prefix(prefix).unwrap_or(last).to_owned();
        Self { version: VERSION.into(), revision: revision.map(|revision| revision.0), after }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        let invalid = || Status::bad_request("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let unsafe_key = token.after.is_empty() || token.after.split('/').any(|part| part.is_empty() || part == "..");
        if token.version != VERSION || unsafe_key { Err(invalid()) } else { Ok(token) }
    }

    pub(crate) fn encode(&self) -> String {
        // Strings and a number: encoding them cannot fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn revision(&self) -> Option<Revision> {
        self.revision.map(Revision)
    }

    pub(crate) fn after(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.after)
    }

    /// 410 with a token that goes on at the newest state instead.
    pub(crate) fn expired(self) -> Status {
        let mut status = Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
             that were created, modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        );
        status.metadata.continue_token = Self { revision: None, ..self }.encode();
        status
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tokens_round_trip() {
        let token = Token::new(Some(Revision(7)), "/registry/pods/", "/registry/pods/default/a");
        let back = Token::parse(&token.encode()).unwrap();
        assert_eq!(back, token);
        assert_eq!(back.after("/registry/pods/"), "/registry/pods/default/a");
        let fresh = Token::parse(&token.expired().metadata.continue_token).unwrap();
        assert_eq!(fresh.revision(), None);
    }

    #[test]
    fn forged_tokens_are_refused() {
        let forge = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for text in [
            "%%%".to_owned(),
            forge("not json"),
            forge(r#"{"v":"other","rv":1,"start":"a"}"#),
            forge(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            forge(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/a"}"#),
        ] {
            assert_eq!(Token::parse(&text).unwrap_err().message, "continue key is not valid");
        }
    }
}
