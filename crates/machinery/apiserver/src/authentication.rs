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

    /// Once per TLS connection, with the same chain: until when its client may say for whom it asks. Such a client is a proxy
    /// that has authenticated the callers behind it.
    fn vouches(&self, _peer: &[CertificateDer<'_>]) -> Option<SystemTime> {
        None
    }

    /// Per request of a connection that [`Self::vouches`] took: for whom it is; `None`: it does not say.
    fn vouched(&self, _headers: &http::HeaderMap) -> Option<Arc<UserInfo>> {
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
#[derive(Clone)]
pub(crate) enum Caller {
    /// A caller inside this process, who is who it says.
    InProcess(Arc<UserInfo>),
    Connection(Proved),
}

/// What the certificate of a connection's client proves.
#[derive(Clone, Default)]
pub(crate) struct Proved {
    pub(crate) identity: Option<Identity>,
    /// Who believes it of others, and until when.
    pub(crate) voucher: Option<(Arc<dyn Authenticator>, SystemTime)>,
}

impl Proved {
    pub(crate) fn by(peer: &[CertificateDer<'_>], authenticators: &[Arc<dyn Authenticator>]) -> Self {
        if peer.is_empty() {
            return Self::default();
        }
        let identity = authenticators.iter().find_map(|known| known.connection(peer));
        Self {
            identity: identity.map(|identity| Identity { user: authenticated(identity.user), ..identity }),
            voucher: authenticators.iter().find_map(|known| Some((known.clone(), known.vouches(peer)?))),
        }
    }
}

/// What only a check of health or version may be asked without.
pub(crate) async fn authenticate(
    authenticators: &[Arc<dyn Authenticator>],
    caller: &Caller,
    parts: &http::request::Parts,
) -> Result<Option<Arc<UserInfo>>, Status> {
    let Proved { identity, voucher } = match caller {
        Caller::InProcess(user) => return Ok(Some(user.clone())),
        Caller::Connection(proved) => proved,
    };
    if let Some((voucher, until)) = voucher
        && SystemTime::now() <= *until
        && let Some(user) = voucher.vouched(&parts.headers)
    {
        return Ok(Some(authenticated(user)));
    }
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
