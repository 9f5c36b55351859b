//! Why a server gave no answer.

use std::io;

/// Texts are Go's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("unable to load root certificates: {0}")]
    Certificates(String),
    #[error("{0:?} is not an HTTPS URL")]
    Url(String),
    #[error("webhook configuration must have either service or URL")]
    Nowhere,
    /// In the resolver's words.
    #[error("{0}")]
    Unresolved(String),
    #[error("dial tcp {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("dial tcp: lookup {0}: no such host")]
    NoSuchHost(String),
    #[error("{0}")]
    Tls(String),
    #[error("EOF")]
    Closed,
    #[error("{0}")]
    Http(String),
    #[error("context deadline exceeded")]
    TimedOut,
    #[error("http: server response too large")]
    TooLarge,
}

impl Error {
    pub(crate) fn connect(host: &str, address: String, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
            io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
            io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            // What the resolver of names says, it says without a number of the system's.
            _ if error.raw_os_error().is_none() => return Self::NoSuchHost(host.to_owned()),
            _ => error.to_string(),
        };
        Self::Connect { address, reason }
    }

    pub(crate) fn tls(error: &io::Error) -> Self {
        let said = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::Tls(match said {
            Some(rustls::Error::InvalidCertificate(problem)) => {
                use rustls::CertificateError::{BadSignature, Expired, ExpiredContext, UnknownIssuer};
                let problem = match problem {
                    // Another authority may have the same name.
                    UnknownIssuer | BadSignature => "x509: certificate signed by unknown authority".to_owned(),
                    Expired | ExpiredContext { .. } => "x509: certificate has expired or is not yet valid".to_owned(),
                    other => format!("x509: {other}"),
                };
                format!("tls: failed to verify certificate: {problem}")
            }
            Some(other) => format!("tls: {other}"),
            None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            None => error.to_string(),
        })
    }

    pub(crate) fn http(error: &hyper::Error) -> Self {
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Closed;
        }
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Http(format!("{error}{cause}"))
    }
}
