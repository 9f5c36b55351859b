//! `Authorization: Bearer`: whose token is it, and does it still hold?

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use base_meta::Status;
use machinery_apiserver::Authenticator;
use machinery_registry::UserInfo;
use sha2::{Digest as _, Sha256};

use super::claims::{Bound, Claims, LEGACY_ISSUER, Reference, subject};
use super::keys::{KeyError, Keys};
use crate::admission::Lookups;
use crate::admission::late::Late;
use crate::authentication::AUTHENTICATED;

/// Clocks of nodes differ by as much.
const LEEWAY: u64 = 60;
/// Tokens remembered; a pod has one at a time.
const REMEMBERED: usize = 8192;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not one of ours")]
    Signature(#[source] KeyError),
    #[error("the token's issuer is not this cluster")]
    Issuer,
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    Early,
    #[error("the token's subject is not its service account")]
    Subject,
    #[error("service account token has been invalidated")]
    Gone,
    #[error("look up what the token is bound to")]
    Lookup(#[source] Status),
}

/// A signature that was right: everything of a token that time does not change.
struct Checked {
    user: Arc<UserInfo>,
    claims: Claims,
    bound: Bound,
}

pub struct ServiceAccountTokens {
    keys: Arc<Keys>,
    lookups: Arc<Lookups>,
    checked: RwLock<HashMap<[u8; 32], Arc<Checked>>>,
}

impl ServiceAccountTokens {
    pub fn new(keys: Arc<Keys>, lookups: Arc<Lookups>) -> Self {
        Self { keys, lookups, checked: RwLock::default() }
    }

    /// The caller, and for which of `audiences` the token is (empty: those of the API server).
    pub(crate) async fn verify(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Arc<UserInfo>, Vec<String>), TokenError> {
        let checked = self.check(token)?;
        let Checked { user, claims, bound } = &*checked;
        let now = now();
        if claims.exp.is_some_and(|exp| now > exp + LEEWAY) {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now + LEEWAY < nbf) {
            return Err(TokenError::Early);
        }
        let own = [self.keys.issuer().to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        // Tokens in Secrets are for the API server alone, and do not say so.
        let granted = if claims.iss == LEGACY_ISSUER { &own[..] } else { &claims.aud };
        let for_us: Vec<String> = wanted.iter().filter(|audience| granted.contains(audience)).cloned().collect();
        if for_us.is_empty() {
            return Err(TokenError::Audience(granted.to_vec(), wanted.to_vec()));
        }
        let Bound { namespace, node, pod, secret, serviceaccount, .. } = bound;
        self.exists(&self.lookups.service_accounts, Some(namespace), serviceaccount).await?;
        if let Some(pod) = pod {
            self.exists(&self.lookups.pods, Some(namespace), pod).await?;
        } else if let Some(node) = node {
            // A pod's node is told, not bound to.
            self.exists(&self.lookups.nodes, None, node).await?;
        }
        if let Some(secret) = secret {
            self.exists(&self.lookups.secrets, Some(namespace), secret).await?;
        }
        Ok((user.clone(), for_us))
    }

    /// Once per token, then from memory.
    fn check(&self, token: &str) -> Result<Arc<Checked>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.checked.read().unwrap_or_else(PoisonError::into_inner).get(&digest) {
            return Ok(known.clone());
        }
        let claims = self.keys.open(token).map_err(TokenError::Signature)?;
        let bound = bound(&claims, self.keys.issuer())?;
        if claims.sub != subject(&bound.namespace, &bound.serviceaccount.name) {
            return Err(TokenError::Subject);
        }
        let checked = Arc::new(Checked { user: Arc::new(user(&claims, &bound)), claims, bound });
        let mut all = self.checked.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            let now = now();
            all.retain(|_, known| known.claims.exp.is_some_and(|exp| exp > now));
            if all.len() >= REMEMBERED {
                all.clear();
            }
        }
        all.insert(digest, checked.clone());
        Ok(checked)
    }

    /// That very object: one made anew under the name does not count.
    async fn exists(&self, kind: &Late, namespace: Option<&str>, wanted: &Reference) -> Result<(), TokenError> {
        let found = kind.find_as_server(namespace, &wanted.name).await.map_err(TokenError::Lookup)?;
        let same = found.is_some_and(|found| wanted.uid.is_empty() || *found.meta.uid == *wanted.uid);
        if same { Ok(()) } else { Err(TokenError::Gone) }
    }
}

fn bound(claims: &Claims, issuer: &str) -> Result<Bound, TokenError> {
    match &claims.bound {
        Some(bound) if claims.iss == issuer && claims.exp.is_some() => Ok(bound.clone()),
        None if claims.iss == LEGACY_ISSUER => {
            let legacy = &claims.legacy;
            Ok(Bound {
                namespace: legacy.namespace.clone(),
                secret: Some(Reference { name: legacy.secret.clone(), uid: String::new() }),
                serviceaccount: Reference { name: legacy.name.clone(), uid: legacy.uid.clone() },
                ..Bound::default()
            })
        }
        _ => Err(TokenError::Issuer),
    }
}

fn user(claims: &Claims, bound: &Bound) -> UserInfo {
    let mut extra = BTreeMap::new();
    let mut tell = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &bound.pod {
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        tell("node-name", &node.name);
        tell("node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        tell("credential-id", &format!("JTI={}", claims.jti));
    }
    UserInfo {
        name: claims.sub.clone(),
        uid: bound.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", bound.namespace),
            AUTHENTICATED.to_owned(),
        ],
        extra,
    }
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[async_trait::async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn request(&self, parts: &http::request::Parts) -> Result<Option<Arc<UserInfo>>, Status> {
        let Some(token) = bearer(&parts.headers) else { return Ok(None) };
        match self.verify(token, &[]).await {
            Ok((user, _)) => Ok(Some(user)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a bearer token was refused");
                Err(Status::unauthorized())
            }
        }
    }
}

pub(super) fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
