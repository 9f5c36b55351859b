//! Client certificates: the common name is the user, each organization a group, as upstream's x509 authenticator.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use machinery_apiserver::{Authenticator, Identity};
use machinery_registry::UserInfo;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The TLS layer has verified the chain against our authority; here it only becomes a user.
#[derive(Debug, Default)]
pub struct ClientCertificates;

#[async_trait::async_trait]
impl Authenticator for ClientCertificates {
    fn connection(&self, peer: &[CertificateDer<'_>]) -> Option<Identity> {
        let (_, certificate) = X509Certificate::from_der(peer.first()?).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        if name.is_empty() {
            return None;
        }
        let groups =
            subject.iter_organization().filter_map(|organization| organization.as_str().ok()).map(str::to_owned);
        let user = UserInfo { name, groups: groups.collect(), ..UserInfo::default() };
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        let valid_until = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Some(Identity { user: Arc::new(user), valid_until: Some(valid_until) })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(common_name: Option<&str>, organizations: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").der().clone()
    }

    #[test]
    fn the_subject_becomes_user_and_groups() {
        let identity = ClientCertificates.connection(&[certificate(Some("admin"), &["system:masters"])]);
        let identity = identity.expect("a user");
        assert_eq!(
            (identity.user.name.as_str(), identity.user.groups.as_slice()),
            ("admin", &["system:masters".to_owned()][..])
        );
        assert!(identity.valid_until.expect("an end") > SystemTime::now());
    }

    #[test]
    fn a_nameless_or_broken_certificate_is_nobody() {
        assert!(ClientCertificates.connection(&[certificate(None, &["system:masters"])]).is_none());
        assert!(ClientCertificates.connection(&[CertificateDer::from(vec![1, 2, 3])]).is_none());
        assert!(ClientCertificates.connection(&[]).is_none());
    }
}
