//! Bootstrap tokens: whose Secret in `kube-system` says so is `system:bootstrap:ID` while it lasts.

use std::sync::Arc;

use api::bootstrap_token::{self as token, Expiry};
use base_meta::Status;
use jiff::Timestamp;
use machinery_apiserver::Authenticator;
use machinery_registry::UserInfo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::authenticator::bearer;
use crate::admission::Lookups;

pub struct BootstrapTokens(pub Arc<Lookups>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("is deleted and awaiting removal")]
    Deleted,
    #[error("has invalid type, expected {}", token::SECRET_TYPE)]
    Type,
    #[error("has invalid value for key {0}")]
    Value(&'static str),
    #[error("has expired")]
    Expired,
    #[error("not marked {}=true", token::USAGE_AUTHENTICATION)]
    Usage,
    #[error("has invalid value for key auth-extra-groups: {0}")]
    Groups(token::BadGroup),
}

/// Pure: who the holder of `id.secret` is, as the stored Secret has it.
fn holder(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Result<UserInfo, Refused> {
    if !stored["metadata"]["deletionTimestamp"].is_null() {
        return Err(Refused::Deleted);
    }
    if stored["type"] != token::SECRET_TYPE {
        return Err(Refused::Type);
    }
    // Hashes: how long a comparison takes must not tell how much was right.
    if Sha256::digest(token::datum(stored, token::SECRET)) != Sha256::digest(secret) {
        return Err(Refused::Value(token::SECRET));
    }
    if token::datum(stored, token::ID) != id {
        return Err(Refused::Value(token::ID));
    }
    if token::expiry(stored, now) == Expiry::Past {
        return Err(Refused::Expired);
    }
    if token::datum(stored, token::USAGE_AUTHENTICATION) != "true" {
        return Err(Refused::Usage);
    }
    let groups = token::groups(stored).map_err(Refused::Groups)?;
    Ok(UserInfo { name: format!("{}{id}", token::USER_PREFIX), groups, ..UserInfo::default() })
}

impl BootstrapTokens {
    /// `None`: it is no bootstrap token, or none that holds.
    pub(crate) async fn verify(&self, text: &str) -> Result<Option<Arc<UserInfo>>, Status> {
        let Some((id, secret)) = token::parse(text) else { return Ok(None) };
        let name = format!("{}{id}", token::NAME_PREFIX);
        let Some(stored) = self.0.secrets.find_as_server(Some(token::NAMESPACE), &name).await? else {
            return Ok(None);
        };
        let stored = stored.to_value().map_err(Status::internal)?;
        match holder(&stored, id, secret, Timestamp::now()) {
            Ok(user) => Ok(Some(Arc::new(user))),
            Err(why) => {
                tracing::info!(secret = name, %why, "a bootstrap token is refused");
                Ok(None)
            }
        }
    }
}

#[async_trait::async_trait]
impl Authenticator for BootstrapTokens {
    async fn request(&self, parts: &http::request::Parts) -> Result<Option<Arc<UserInfo>>, Status> {
        match bearer(&parts.headers) {
            Some(text) => self.verify(text).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_holds_is_believed() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let made = |key: &str, value: &str| {
            let mut data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true", "expiration": "2026-01-01T01:00:00Z"});
            data[key] = value.into();
            let data: serde_json::Map<String, Value> = data
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), STANDARD.encode(value.as_str().unwrap_or("")).into()))
                .collect();
            json!({"type": "bootstrap.kubernetes.io/token", "data": data})
        };
        let of = |stored: &Value| holder(stored, "abcdef", "0123456789abcdef", now);
        let user = of(&made("auth-extra-groups", "system:bootstrappers:a")).expect("it holds");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:a"]);
        let table = [
            ("token-secret", "0123456789abcdee", Refused::Value("token-secret")),
            ("token-id", "abcdee", Refused::Value("token-id")),
            ("usage-bootstrap-authentication", "yes", Refused::Usage),
            ("expiration", "2025-01-01T00:00:00Z", Refused::Expired),
        ];
        for (key, value, expected) in table {
            assert_eq!(of(&made(key, value)), Err(expected), "{key}");
        }
        assert!(matches!(of(&made("auth-extra-groups", "system:masters")), Err(Refused::Groups(_))));
        let mut other = made("x", "y");
        other["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(of(&other), Err(Refused::Deleted));
        other["metadata"] = Value::Null;
        other["type"] = json!("Opaque");
        assert_eq!(of(&other), Err(Refused::Type));
    }
}
