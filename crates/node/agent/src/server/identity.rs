//! Who may call the node API, by client certificate.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

const API_SERVER: &str = "kube-apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// The handshake has verified the chain; this reads whom it names.
pub(super) fn may_call(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let subject = certificate.subject();
    let named = subject.iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == API_SERVER));
    named || subject.iter_organization().any(|group| group.as_str().is_ok_and(|group| group == ADMINISTRATORS))
}
