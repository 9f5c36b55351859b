//! Getting to know the cluster's authority from the server itself: the token says which certificate it must be.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http::Uri;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;

use crate::trust::{self, Trust};

const PATIENCE: Duration = Duration::from_secs(10);

/// The authority whose certificate has this hash, from `server`, which shows it with its own certificate.
pub async fn discover(server: &Uri, hash: &str) -> Result<Trust> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(ByHash { hash: hash.to_owned(), provider: provider.clone(), found: OnceLock::new() });
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("preparing TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let authority = server.authority().with_context(|| format!("{server} names no server"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).with_context(|| format!("{host:?} names no TLS server"))?;
    let shake = async {
        let stream = TcpStream::connect((&*host, authority.port_u16().unwrap_or(443))).await?;
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await
    };
    let shaken = tokio::time::timeout(PATIENCE, shake).await.map_err(|_| anyhow!("it did not answer in time"));
    shaken.and_then(|shaken| Ok(shaken?)).with_context(|| format!("asking {server} for its authority"))?;
    let Some(der) = verifier.found.get() else { bail!("{server} showed no authority") };
    Trust::of_pem(crate::signer::x509_pem(der))
}

/// Believes a server whose chain holds the certificate of this hash, and that is signed by it.
#[derive(Debug)]
struct ByHash {
    hash: String,
    provider: Arc<CryptoProvider>,
    found: OnceLock<CertificateDer<'static>>,
}

impl ServerCertVerifier for ByHash {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = || {
            let why = "the server's authority is not the one that the token names: the token is another cluster's, or \
                       this is not the server";
            Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(Stranger(why)))))
        };
        let authority = intermediates.iter().find(|certificate| trust::hash(certificate) == self.hash);
        let authority = authority.ok_or_else(refused)?.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
        let _ = self.found.set(authority);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stranger(&'static str);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn only_the_authority_of_the_token_is_believed() {
        let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
        let [ours, other] = dirs.each_ref().map(|dir| Authority::open(dir.path()).expect("an authority"));
        let local = [std::net::Ipv4Addr::LOCALHOST.into()];
        let leaf = ours.server("kube-apiserver", &[], &local).expect("a certificate");
        let foreign = other.server("kube-apiserver", &[], &local).expect("a certificate");
        // Who only shows the right authority beside a certificate of another is not believed either.
        for (leaf, hash, good) in
            [(&leaf, ours.trust.hash(), true), (&leaf, other.trust.hash(), false), (&foreign, ours.trust.hash(), false)]
        {
            let shown = leaf.certified(std::slice::from_ref(&ours.trust.der)).expect("shown");
            let shown = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
            let tls = Arc::new(ours.trust.server(shown, &[]).expect("TLS"));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let url: Uri = format!("https://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.expect("a client");
                let _ = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await;
            });
            let found = discover(&url, &hash).await;
            assert_eq!(found.as_ref().is_ok_and(|found| found.der == ours.trust.der), good, "{found:?}");
            server.await.expect("the server does not panic");
        }
    }
}
