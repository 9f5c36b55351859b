//! The cluster's certificate authority and the certificates this process uses.
//!
//! Only authorities' keys live on disk (`<data-dir>/tls/ca.crt` and `ca.key`, mode 0600; beside them `request-header-ca`, which
//! signs for this server as a proxy and for nobody else); leaves are made anew at each start, so that their names follow the flags, and
//! replaced while they are in use ([`crate::renewing`]).

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::trust::Trust;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;
pub const LEAF_LIFE: Duration = Duration::from_secs(DAY.as_secs() * LEAF_DAYS as u64);

pub struct Authority {
    pub trust: Trust,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Leaf {
    pub cert_pem: String,
    pub key_pem: String,
    cert: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Leaf {
    /// As TLS takes it; with the certificates of those who signed it, for clients that do not know them yet.
    pub fn certified(&self, signers: &[CertificateDer<'static>]) -> Result<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key).context("using a certificate's key")?;
        let mut chain = vec![self.cert.clone()];
        chain.extend_from_slice(signers);
        Ok(CertifiedKey::new(chain, key))
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
        let trust = Trust::of_pem(ca_pem).with_context(|| format!("parsing {}", cert_path.display()))?;
        Ok(Self { trust, issuer })
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
        assert_eq!(first.trust.pem, second.trust.pem);
        let leaf = second.client("admin", &["system:masters"]).expect("signed");
        leaf.certified(&[]).expect("a usable key");
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
