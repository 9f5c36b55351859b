//! Who is calling. The API server asks; `control/policy` answers.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use base_meta::Status;
use machinery_registry::UserInfo;
use rustls_pki_types::CertificateDer;

/// An authenticated caller, and until when the proof of it holds.
#[derive(Clone, Debug)]
pub struct Identity {
    pub user: Arc<UserInfo>,
    /// `None`: for as long as the connection lives.
    pub valid_until: Option<SystemTime>,
}

/// One way to prove an identity. They are asked in the order of the server's table; the first that knows the
/// caller decides.
#[async_trait::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Once per TLS connection, with the chain the client proved to hold (already verified against the client
    /// authority), leaf first. `None`: this chain says nothing about who it is.
    fn connection(&self, _peer: &[CertificateDer<'_>]) -> Option<Identity> {
        None
    }

    /// Per request of a connection without an identity. `Ok(None)`: no credentials of the kind this one knows;
    /// `Err`: such credentials, and they are bad.
    async fn request(&self, _parts: &http::request::Parts) -> Result<Option<Arc<UserInfo>>, Status> {
        Ok(None)
    }
}

/// Callers without credentials: `system:anonymous`.
pub(crate) static ANONYMOUS: LazyLock<Arc<UserInfo>> = LazyLock::new(|| {
    Arc::new(UserInfo {
        name: "system:anonymous".into(),
        groups: vec!["system:unauthenticated".into()],
        ..UserInfo::default()
    })
});

/// Every authenticated caller is in this group, as upstream's authenticators add it.
const AUTHENTICATED: &str = "system:authenticated";

/// The caller with the group of all authenticated callers.
pub(crate) fn authenticated(user: Arc<UserInfo>) -> Arc<UserInfo> {
    if user.groups.iter().any(|group| group == AUTHENTICATED) {
        return user;
    }
    let mut user = Arc::unwrap_or_clone(user);
    user.groups.push(AUTHENTICATED.into());
    Arc::new(user)
}

/// Where the request came from, as the chain sees it.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A caller inside this process, who is who it says.
    InProcess(Arc<UserInfo>),
    Connection {
        identity: Option<Identity>,
    },
}

/// What only a check of health or version may be asked without.
pub(crate) async fn authenticate(
    authenticators: &[Arc<dyn Authenticator>],
    caller: &Caller,
    parts: &http::request::Parts,
) -> Result<Option<Arc<UserInfo>>, Status> {
    let identity = match caller {
        Caller::InProcess(user) => return Ok(Some(user.clone())),
        Caller::Connection { identity } => identity,
    };
    if let Some(identity) = identity {
        let expired = identity.valid_until.is_some_and(|end| SystemTime::now() > end);
        return if expired { Err(Status::unauthorized()) } else { Ok(Some(identity.user.clone())) };
    }
    for authenticator in authenticators {
        match authenticator.request(parts).await {
            Ok(Some(user)) => return Ok(Some(authenticated(user))),
            Ok(None) => {}
            Err(reason) => {
                tracing::debug!(%reason, "credentials refused");
                return Err(Status::unauthorized());
            }
        }
    }
    if parts.headers.contains_key(http::header::AUTHORIZATION) {
        return Err(Status::unauthorized());
    }
    Ok(None)
}
