//! Whom a part of the cluster believes: the certificate of the cluster's authority, without its key.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientCertVerifierBuilder, ResolvesServerCert, WebPkiClientVerifier};
use sha2::{Digest as _, Sha256};

#[derive(Clone, Debug)]
pub struct Trust {
    pub pem: String,
    pub der: CertificateDer<'static>,
}

impl Trust {
    pub fn of_pem(pem: String) -> Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|error| anyhow::anyhow!("no certificate in PEM: {error:?}"))?;
        Ok(Self { pem, der })
    }

    /// Where a node keeps it; an authority keeps its key beside it.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(pem) => Self::of_pem(pem).map(Some).with_context(|| format!("parsing {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// By which join tokens name it: SHA-256 of the certificate, in hexadecimal.
    pub fn hash(&self) -> String {
        hash(&self.der)
    }

    /// A number of 24 bits that tells this cluster from others.
    pub fn network_id(&self) -> u32 {
        let digest = Sha256::digest(&self.der);
        // Zero is reserved.
        u32::from_be_bytes([0, digest[0], digest[1], digest[2]]).max(1)
    }

    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).context("adding the authority to a trust store")?;
        Ok(roots)
    }

    /// TLS of a server that asks for, but does not demand, a client certificate of this authority or of one of `others` (PEM).
    pub fn server(&self, own: Arc<dyn ResolvesServerCert>, others: &[u8]) -> Result<rustls::ServerConfig> {
        let mut roots = self.roots()?;
        for other in CertificateDer::pem_slice_iter(others) {
            let other = other.map_err(|error| anyhow::anyhow!("reading an authority: {error:?}"))?;
            roots.add(other).context("adding an authority to a trust store")?;
        }
        listener(WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated(), own)
    }

    /// TLS of a client of servers of this authority, that shows `own` to whoever asks.
    pub fn client(&self, own: Arc<dyn ResolvesClientCert>) -> Result<rustls::ClientConfig> {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(self.roots()?).with_client_cert_resolver(own);
        // A resumed session shows the certificate that it began with: after that one's end the node would be nobody.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// See [`Trust::hash`].
pub fn hash(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listener(verifier: ClientCertVerifierBuilder, own: Arc<dyn ResolvesServerCert>) -> Result<rustls::ServerConfig> {
    let verifier = verifier.build().context("building the client certificate verifier")?;
    let mut config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
