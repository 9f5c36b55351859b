//! What ConfigMap `cluster-info` is to hold. Pure.

use std::collections::BTreeMap;

use api::bootstrap_token::{self as token, Expiry};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

/// A token that signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) id: String,
    pub(super) secret: String,
}

/// Of a Secret of that name. `None`: it is not for signing, or no more, or its name is not its id's.
pub(super) fn signer(name: &str, secret: &Value, now: Timestamp) -> Option<Signer> {
    let datum = |key| token::datum(secret, key);
    let (id, value) = (datum(token::ID), datum(token::SECRET));
    let named = name.strip_prefix(token::NAME_PREFIX) == Some(id.as_str());
    let valid = named && !id.is_empty() && !value.is_empty() && datum(token::USAGE_SIGNING) == "true";
    (valid && token::expiry(secret, now) != Expiry::Past).then_some(Signer { id, secret: value })
}

/// Where the API is and whose certificates to believe, for who has nothing but a token.
pub(super) fn kubeconfig(address: &str, ca_pem: &str) -> String {
    format!(
        "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {}
    server: https://{address}
  name: \"\"
contexts: null
current-context: \"\"
kind: Config
preferences: {{}}
users: null
",
        STANDARD.encode(ca_pem)
    )
}

/// RFC 7515, appendix F: a JWS without its content.
fn signature(content: &str, Signer { id, secret }: &Signer) -> Result<String, jsonwebtoken::errors::Error> {
    let head = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256)?;
    Ok(format!("{head}..{signature}"))
}

/// The data as it is to be: a kubeconfig that is there stays, and every signer's signature of it stands beside.
pub(super) fn wanted(
    stored: &BTreeMap<String, String>,
    kubeconfig: &str,
    signers: &[Signer],
) -> Result<BTreeMap<String, String>, jsonwebtoken::errors::Error> {
    let mut data = stored.clone();
    data.retain(|key, _| !key.starts_with(SIGNATURE));
    let content = data.entry(KUBECONFIG.to_owned()).or_insert_with(|| kubeconfig.to_owned()).clone();
    for signer in signers {
        data.insert(format!("{SIGNATURE}{}", signer.id), signature(&content, signer)?);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(data: &[(&str, &str)]) -> Value {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), json!(ByteString(value.as_bytes().to_vec()))));
        json!({"data": data.collect::<serde_json::Map<_, _>>()})
    }

    #[test]
    fn signatures_are_upstreams() {
        let joshua = Signer { id: "joshua".into(), secret: "my voice is my passcode".into() };
        let content = "Hello from the other side. I must have called a thousand times.";
        assert_eq!(
            signature(content, &joshua).expect("a signature"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn only_what_is_for_signing_signs() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let good = [("token-id", "abcdef"), ("token-secret", "s"), ("usage-bootstrap-signing", "true")];
        let name = "bootstrap-token-abcdef";
        let expected = Signer { id: "abcdef".into(), secret: "s".into() };
        assert_eq!(signer(name, &secret(&good), now), Some(expected));
        assert_eq!(signer("bootstrap-token-other", &secret(&good), now), None);
        for (key, value) in
            [("usage-bootstrap-signing", "false"), ("expiration", "2025-01-01T00:00:00Z"), ("token-secret", "")]
        {
            let mut data = good.to_vec();
            data.retain(|(known, _)| *known != key);
            data.push((key, value));
            assert_eq!(signer(name, &secret(&data), now), None, "{key}");
        }
    }

    #[test]
    fn signatures_come_and_go_and_a_users_own_kubeconfig_stays() {
        let one = Signer { id: "abcdef".into(), secret: "s".into() };
        let made = wanted(&BTreeMap::new(), "ours", std::slice::from_ref(&one)).expect("data");
        assert_eq!(made.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        assert_eq!(wanted(&made, "other", std::slice::from_ref(&one)).expect("data"), made);
        let mut edited = made.clone();
        edited.insert("kubeconfig".into(), "mine".into());
        edited.insert("note".into(), "kept".into());
        let again = wanted(&edited, "ours", &[one]).expect("data");
        assert_ne!(again["jws-kubeconfig-abcdef"], made["jws-kubeconfig-abcdef"]);
        let none = wanted(&again, "ours", &[]).expect("data");
        assert_eq!(none, BTreeMap::from([("kubeconfig".into(), "mine".into()), ("note".into(), "kept".into())]));
    }
}
