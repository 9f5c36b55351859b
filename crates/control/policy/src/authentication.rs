//! Client certificates: the subject's common name is the user, its organizations are the groups.
//! rustls has already verified the chain against the cluster's client authority, and its validity.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use machinery_apiserver::{Authenticator, Identity};
use machinery_registry::UserInfo;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Every caller that proved who it is belongs to it.
pub const AUTHENTICATED: &str = "system:authenticated";

#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificates;

impl Authenticator for ClientCertificates {
    fn connection(&self, peer: &[CertificateDer<'_>]) -> Option<Identity> {
        let leaf = peer.first()?;
        match identity(leaf) {
            Ok(identity) => Some(identity),
            Err(error) => {
                tracing::warn!(%error, "a client certificate names nobody");
                None
            }
        }
    }
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
        let identity = ClientCertificates.connection(&chain).expect("an identity");
        assert_eq!(identity.user.name, "admin");
        assert_eq!(identity.user.groups, ["system:masters", AUTHENTICATED]);
        assert!(identity.valid_until.is_some_and(|end| end > SystemTime::now()));
    }

    #[test]
    fn nobody_is_nobody() {
        assert!(ClientCertificates.connection(&[]).is_none());
        assert!(ClientCertificates.connection(&[certificate("", &["system:masters"])]).is_none());
        assert!(ClientCertificates.connection(&[CertificateDer::from(vec![1, 2, 3])]).is_none());
    }
}
