//! The key that signs tokens (ES256), and what others need to check them: the two OpenID documents.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::claims::Claims;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the public key is no point of P-256")]
    Point,
    #[error("use the key that signs tokens")]
    Key(#[source] jsonwebtoken::errors::Error),
}

pub struct Keys {
    issuer: String,
    header: Header,
    signing: EncodingKey,
    checking: DecodingKey,
    x: String,
    y: String,
    id: String,
}

impl Keys {
    /// `private` is PKCS #8, `point` the uncompressed public point, `info` its SubjectPublicKeyInfo (all DER but the
    /// point). Tokens are for `issuer` itself unless they say otherwise.
    pub fn new(private: &[u8], point: &[u8], info: &[u8], issuer: String) -> Result<Self, KeyError> {
        let [4, coordinates @ ..] = point else { return Err(KeyError::Point) };
        if coordinates.len() != 64 {
            return Err(KeyError::Point);
        }
        let (x, y) = coordinates.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(info));
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(id.clone());
        let checking = DecodingKey::from_ec_components(&x, &y).map_err(KeyError::Key)?;
        Ok(Self { issuer, header, signing: EncodingKey::from_ec_der(private), checking, x, y, id })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        jsonwebtoken::encode(&self.header, claims, &self.signing).map_err(KeyError::Key)
    }

    /// The claims of a token with our signature; whether they still hold is another question.
    pub(super) fn open(&self, token: &str) -> Result<Claims, KeyError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &self.checking, &validation).map(|token| token.claims).map_err(KeyError::Key)
    }

    /// `/openid/v1/jwks`
    pub fn key_set(&self) -> Value {
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": self.x, "y": self.y}]})
    }

    /// `/.well-known/openid-configuration`; `server` is `host:port`.
    pub fn configuration(&self, server: &str) -> Value {
        json!({"issuer": self.issuer, "jwks_uri": format!("https://{server}/openid/v1/jwks"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"]})
    }
}
