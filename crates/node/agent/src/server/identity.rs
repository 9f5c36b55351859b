//! Who may call the node API, as upstream's kubelet decides. The API server and cluster administrators may do everything,
//! also while there is no API server. Whoever else is asked for a certificate of the cluster or a bearer token, and must be
//! allowed to do that to the part of this node's object that the path stands for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::{Cluster, Identity};
use crate::seams::chain;

const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// How long an answer of the API server holds; upstream's defaults.
const TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers that are kept of each kind.
const KEPT: usize = 1024;

/// Whom a connection's certificate names.
pub(super) enum Caller {
    Trusted,
    User(Identity),
    Unknown,
}

/// The handshake has verified the chain, where there is one; this reads whom it names.
pub(super) fn of_certificate(certificate: Option<&CertificateDer<'_>>) -> Caller {
    let Some(Ok((_, certificate))) = certificate.map(|der| X509Certificate::from_der(der)) else {
        return Caller::Unknown;
    };
    let subject = certificate.subject();
    let text = |name: &x509_parser::prelude::AttributeTypeAndValue<'_>| name.as_str().unwrap_or_default().to_owned();
    let name = subject.iter_common_name().map(text).next().unwrap_or_default();
    let groups: Vec<_> = subject.iter_organization().map(text).collect();
    if name == API_SERVER || groups.iter().any(|group| group == ADMINISTRATORS) {
        return Caller::Trusted;
    }
    Caller::User(Identity { name, groups, ..Identity::default() })
}

/// The parts of a node's object of which one suffices, the narrowest first.
fn parts(path: &str) -> &'static [&'static str] {
    match path.trim_matches('/').split('/').next().unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "healthz" => &["healthz", "proxy"],
        "pods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Asks the API server, and remembers its answers for a while.
#[derive(Default)]
pub struct Access {
    tokens: Remembered<String, Identity>,
    rights: Remembered<(Identity, &'static str, &'static str), bool>,
}

impl Access {
    /// Whether the caller may do that; else what to answer.
    pub(super) async fn check(
        &self,
        cluster: &dyn Cluster,
        caller: &Caller,
        (method, path, headers): (&Method, &str, &HeaderMap),
    ) -> Result<(), (StatusCode, String)> {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized\n".to_owned());
        let user = match caller {
            Caller::Trusted => return Ok(()),
            Caller::User(user) => user.clone(),
            Caller::Unknown => {
                let token = bearer(headers).ok_or_else(unauthorized)?;
                self.user_of(cluster, token).await.ok_or_else(unauthorized)?
            }
        };
        let (verb, parts) = (verb(method), parts(path));
        for part in parts {
            if self.allowed(cluster, &user, verb, part).await {
                return Ok(());
            }
        }
        let name = &user.name;
        let parts = parts.join(" ");
        let message = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{parts}])\n");
        Err((StatusCode::FORBIDDEN, message))
    }

    async fn user_of(&self, cluster: &dyn Cluster, token: &str) -> Option<Identity> {
        if let Some(known) = self.tokens.get(&token.to_owned()) {
            return Some(known);
        }
        let user = cluster.authenticate(token).await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "a caller's token cannot be reviewed");
            None
        })?;
        self.tokens.keep(token.to_owned(), user.clone(), TOKEN);
        Some(user)
    }

    async fn allowed(&self, cluster: &dyn Cluster, user: &Identity, verb: &'static str, part: &'static str) -> bool {
        let question = (user.clone(), verb, part);
        if let Some(known) = self.rights.get(&question) {
            return known;
        }
        match cluster.allows(user, verb, part).await {
            Ok(allowed) => {
                self.rights.keep(question, allowed, if allowed { ALLOWED } else { DENIED });
                allowed
            }
            Err(error) => {
                tracing::warn!(user = user.name, error = %chain(&error), "a caller's rights cannot be reviewed");
                false
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, value)| value.clone())
    }

    fn keep(&self, key: K, value: V, time: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            let now = Instant::now();
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, (Instant::now() + time, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_stands_for_a_part_of_the_node() {
        assert_eq!(parts("/stats/summary"), ["stats"]);
        assert_eq!(parts("/metrics/resource"), ["metrics"]);
        assert_eq!(parts("/pods"), ["pods", "proxy"]);
        assert_eq!(parts("/exec/default/web/app"), ["proxy"]);
        assert_eq!((verb(&Method::POST), verb(&Method::GET), verb(&Method::HEAD)), ("create", "get", "get"));
    }

    #[test]
    fn tokens_come_in_one_header() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, text.parse().unwrap());
            bearer(&headers).map(ToOwned::to_owned)
        };
        assert_eq!((of("Bearer abc"), of("bearer  abc")), (Some("abc".into()), Some("abc".into())));
        assert_eq!((of("Basic abc"), of("Bearer "), of("Bearer")), (None, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_while_and_not_without_bound() {
        let kept = Remembered::default();
        kept.keep(1, "one", Duration::from_secs(5));
        assert_eq!(kept.get(&1), Some("one"));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(kept.get(&1), None);
        for key in 0..3 * KEPT {
            kept.keep(key, "many", Duration::from_secs(5));
        }
        assert!(kept.0.lock().unwrap().len() <= KEPT);
    }
}
