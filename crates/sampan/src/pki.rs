//! The cluster's certificate authority and the certificates this process uses.
//!
//! Only authorities' keys live on disk (`<data-dir>/tls/ca.crt` and `ca.key`, mode 0600; beside them `request-header-ca`, which
//! signs for this server as a proxy and for nobody else); leaves are made anew at each start, so that their names follow the flags.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;

pub struct Authority {
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    pub ca_der: CertificateDer<'static>,
}

/// A certificate and its key.
pub struct Leaf {
    pub cert_pem: String,
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Leaf {
    /// For a client that shows it to whoever asks.
    pub fn shown(&self) -> Result<Arc<dyn ResolvesClientCert>> {
        let key = rustls::crypto::ring::sign::any_supported_type(&self.key()).context("using a client's key")?;
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![self.cert.clone()], key))))
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

impl Authority {
    /// Reads the cluster's authority of `dir`, or makes one.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::named(dir, "ca")
    }

    /// Reads `NAME.crt` and `NAME.key` of `dir`, or makes them.
    pub fn named(dir: &Path, name: &str) -> Result<Self> {
        let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if !key_path.exists() || !cert_path.exists() {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            let key = KeyPair::generate().context("generating the authority's key")?;
            let cert = ca_params(&format!("sampan-{name}"))?
                .self_signed(&key)
                .context("signing the authority's certificate")?;
            write_private(&cert_path, cert.pem().as_bytes())?;
            // The key last: its presence says that the pair is complete.
            write_private(&key_path, key.serialize_pem().as_bytes())?;
        }
        let ca_pem = fs::read_to_string(&cert_path).with_context(|| format!("reading {}", cert_path.display()))?;
        let key_pem = fs::read_to_string(&key_path).with_context(|| format!("reading {}", key_path.display()))?;
        let key = KeyPair::from_pem(&key_pem).with_context(|| format!("parsing {}", key_path.display()))?;
        let issuer =
            Issuer::from_ca_cert_pem(&ca_pem, key).with_context(|| format!("parsing {}", cert_path.display()))?;
        let ca_der = pem_der(&ca_pem).with_context(|| format!("parsing {}", cert_path.display()))?;
        Ok(Self { ca_pem, issuer, ca_der })
    }

    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A certificate for a server reached by these names.
    pub fn server(&self, common_name: &str, dns: &[&str], ips: &[IpAddr]) -> Result<Leaf> {
        let mut params = leaf_params(common_name, &[])?;
        for name in dns {
            let name = (*name).try_into().with_context(|| format!("{name:?} in a certificate"))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// A client's identity: user `name` in `groups`.
    pub fn client(&self, name: &str, groups: &[&str]) -> Result<Leaf> {
        let mut params = leaf_params(name, groups)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Leaf> {
        let key = KeyPair::generate().context("generating a key")?;
        let cert = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Leaf {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            cert: cert.der().clone(),
            key: key.serialize_der(),
        })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone()).context("adding the authority to a trust store")?;
        Ok(roots)
    }

    /// TLS of a server that demands a client certificate of this authority.
    pub fn server_config(&self, leaf: &Leaf) -> Result<rustls::ServerConfig> {
        Self::listener(leaf, WebPkiClientVerifier::builder(Arc::new(self.roots()?)))
    }

    /// TLS of a server that asks for, but does not demand, a client certificate of this authority or of one of `others` (PEM).
    pub fn open_config(&self, leaf: &Leaf, others: &[u8]) -> Result<rustls::ServerConfig> {
        use rustls::pki_types::pem::PemObject;
        let mut roots = self.roots()?;
        for other in CertificateDer::pem_slice_iter(others) {
            let other = other.map_err(|error| anyhow::anyhow!("reading an authority: {error:?}"))?;
            roots.add(other).context("adding an authority to a trust store")?;
        }
        Self::listener(leaf, WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated())
    }

    fn listener(leaf: &Leaf, verifier: ClientCertVerifierBuilder) -> Result<rustls::ServerConfig> {
        let verifier = verifier.build().context("building the client certificate verifier")?;
        let mut config = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.cert.clone()], leaf.key())
            .context("using a server certificate")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// TLS of a client that presents `leaf` to servers of this authority.
    pub fn client_config(&self, leaf: &Leaf) -> Result<rustls::ClientConfig> {
        rustls::ClientConfig::builder()
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![leaf.cert.clone()], leaf.key())
            .context("using a client certificate")
    }
}

fn ca_params(name: &str) -> Result<CertificateParams> {
    let mut params = base_params(name, CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn leaf_params(common_name: &str, groups: &[&str]) -> Result<CertificateParams> {
    let mut params = base_params(common_name, LEAF_DAYS)?;
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn base_params(common_name: &str, days: u32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("preparing a certificate")?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day back, so that a peer whose clock lags accepts it.
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + DAY * days).into();
    Ok(params)
}

fn pem_der(pem: &str) -> Result<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// Replaces `path` whole, readable by its owner only.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_survives_being_opened_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = Authority::open(dir.path()).expect("made");
        let second = Authority::open(dir.path()).expect("opened");
        assert_eq!(first.ca_pem, second.ca_pem);
        let leaf = second.client("admin", &["system:masters"]).expect("signed");
        second.client_config(&leaf).expect("usable");
    }

    #[test]
    fn a_damaged_authority_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Authority::open(dir.path()).expect("made");
        fs::write(dir.path().join("ca.key"), "not a key").expect("damaged");
        let error = Authority::open(dir.path()).err().expect("refused");
        assert!(format!("{error:#}").contains("ca.key"), "{error:#}");
    }
}
