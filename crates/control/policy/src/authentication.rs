//! Client certificates: the subject's common name is the user, its organizations are the groups.
//! rustls has already verified the chain against the cluster's client authority, and its validity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use machinery_apiserver::{Authenticator, Identity};
use machinery_registry::UserInfo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Every caller that proved who it is belongs to it.
pub const AUTHENTICATED: &str = "system:authenticated";

#[derive(Clone, Default)]
pub struct ClientCertificates {
    /// Of clients, where certificates of other authorities reach this server as well.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientCertificates {
    /// Believes those that `authority` (PEM) signed, whatever else the listener takes.
    pub fn of(authority: &[u8]) -> Result<Self, BadAuthority> {
        Ok(Self { verifier: Some(verifier(authority)?) })
    }
}

impl Authenticator for ClientCertificates {
    fn connection(&self, peer: &[CertificateDer<'_>]) -> Option<Identity> {
        let leaf = peer.first()?;
        if let Some(verifier) = &self.verifier {
            verified(&**verifier, peer)?;
        }
        match identity(leaf) {
            Ok(identity) => Some(identity),
            Err(error) => {
                tracing::warn!(%error, "a client certificate names nobody");
                None
            }
        }
    }
}

/// What is no authority.
#[derive(Debug, thiserror::Error)]
#[error("reading the certificates of an authority: {0}")]
pub struct BadAuthority(String);

/// Of client certificates that the authority (PEM, one or more certificates) signed.
pub(crate) fn verifier(authority: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, BadAuthority> {
    let bad = |error: &dyn std::fmt::Display| BadAuthority(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|error| bad(&error))?;
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.build().map_err(|error| bad(&error))
}

/// Until when the chain holds, if it does now.
pub(crate) fn verified(verifier: &dyn ClientCertVerifier, peer: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let (leaf, rest) = peer.split_first()?;
    verifier.verify_client_cert(leaf, rest, UnixTime::now()).ok()?;
    subject(leaf).and_then(|(_, end)| end)
}

/// The common name, and the end of its time.
pub(crate) fn subject(certificate: &[u8]) -> Option<(String, Option<SystemTime>)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or("").to_owned();
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok();
    Some((name, end.map(|end| SystemTime::UNIX_EPOCH + Duration::from_secs(end))))
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("parse the client certificate: {0}")]
    Parse(String),
    #[error("the client certificate's subject has no common name")]
    Nameless,
}

fn identity(certificate: &[u8]) -> Result<Identity, Error> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| Error::Parse(error.to_string()))?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or("");
    if name.is_empty() {
        return Err(Error::Nameless);
    }
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    groups.retain(|group| group != AUTHENTICATED);
    groups.push(AUTHENTICATED.to_owned());
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok();
    Ok(Identity {
        user: Arc::new(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() }),
        valid_until: end.map(|end| SystemTime::UNIX_EPOCH + Duration::from_secs(end)),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(common_name: &str, organizations: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        if !common_name.is_empty() {
            subject.push(DnType::CommonName, common_name);
        }
        for organization in organizations {
            subject.push(DnType::OrganizationName, *organization);
        }
        params.distinguished_name = subject;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    #[test]
    fn the_subject_is_the_user() {
        let chain = [certificate("admin", &["system:masters"])];
        let identity = ClientCertificates::default().connection(&chain).expect("an identity");
        assert_eq!(identity.user.name, "admin");
        assert_eq!(identity.user.groups, ["system:masters", AUTHENTICATED]);
        assert!(identity.valid_until.is_some_and(|end| end > SystemTime::now()));
    }

    #[test]
    fn nobody_is_nobody() {
        assert!(ClientCertificates::default().connection(&[]).is_none());
        assert!(ClientCertificates::default().connection(&[certificate("", &["system:masters"])]).is_none());
        assert!(ClientCertificates::default().connection(&[CertificateDer::from(vec![1, 2, 3])]).is_none());
    }
}
