//! The certificates of a node: asked for through the API, kept on disk, and replaced while they are in use.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use machinery_client::kube::api::{ObjectMeta, PostParams};
use machinery_client::kube::runtime::wait::await_condition;
use machinery_client::kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a certificate is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// To be the node towards the API.
    Client,
    /// To be the node towards those who ask it: the API server, for logs and streams.
    Serving { name: String, addresses: Vec<IpAddr> },
}

/// How long an approver and a signer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between attempts to replace a certificate.
const RETRY: Duration = Duration::from_secs(60);

impl Purpose {
    fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving { .. } => "kubernetes.io/kubelet-serving",
        }
    }

    fn usage(&self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Serving { .. } => "server auth",
        }
    }

    fn names(&self) -> Result<Vec<SanType>> {
        let Self::Serving { name, addresses } = self else { return Ok(Vec::new()) };
        let mut names = vec![SanType::DnsName(name.as_str().try_into().context("a node's name in a certificate")?)];
        names.extend(addresses.iter().copied().map(SanType::IpAddress));
        Ok(names)
    }
}

/// One of the node's certificates, as the connections take it. Empty until it is first issued.
pub struct Rotating {
    /// Certificate and key in one file, so that they are never of two minds.
    path: PathBuf,
    node: String,
    purpose: Purpose,
    current: RwLock<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    /// From when on it is to be replaced.
    renew: Timestamp,
    end: Timestamp,
}

impl Rotating {
    /// With what an earlier run left at `path`.
    pub fn open(path: PathBuf, node: &str, purpose: Purpose) -> Result<Arc<Self>> {
        let current = match std::fs::read(&path) {
            Ok(pem) => Some(current(&pem).with_context(|| format!("reading {}", path.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        Ok(Arc::new(Self { path, node: node.to_owned(), purpose, current: RwLock::new(current) }))
    }

    /// Whether there is one that holds now.
    pub fn holds(&self) -> bool {
        self.get().is_some_and(|current| Timestamp::now() < current.end)
    }

    fn get(&self) -> Option<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.get().map(|current| current.key)
    }

    /// Gets a new one and uses it from now on.
    pub async fn issue(&self, client: &Client) -> Result<()> {
        let key = KeyPair::generate().context("generating a key")?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = self.purpose.names()?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node));
        let request = params.serialize_request(&key).and_then(|request| request.pem()).context("asking")?;
        let certificate = sign(client, &self.purpose, request).await?;
        let mut pem = certificate;
        pem.extend_from_slice(key.serialize_pem().as_bytes());
        let issued = current(&pem).context("reading what was issued")?;
        crate::pki::write_private(&self.path, &pem)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(issued);
        Ok(())
    }

    /// Issues it where there is none, and replaces it in time, for ever; `renewed` is told of each.
    pub async fn keep<F, Fut>(self: Arc<Self>, client: Client, renewed: F)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = ()>,
    {
        loop {
            if let Some(current) = self.get() {
                let left = current.renew.duration_since(Timestamp::now());
                tokio::time::sleep(left.try_into().unwrap_or_default()).await;
            }
            match self.issue(&client).await {
                Ok(()) => renewed().await,
                Err(error) => {
                    tracing::warn!(usage = self.purpose.usage(), "the node gets no new certificate: {error:#}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn sign(client: &Client, purpose: &Purpose, request: String) -> Result<Vec<u8>> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let usages = ["digital signature", purpose.usage()].map(str::to_owned).to_vec();
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("csr-".into()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: purpose.signer().into(),
            usages: Some(usages),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = api.create(&PostParams::default(), &request).await.context("asking for a certificate")?;
    let name = made.metadata.name.unwrap_or_default();
    let decided = |request: Option<&CertificateSigningRequest>| match request {
        Some(request) => certificate(request).is_some() || refusal(request).is_some(),
        None => true,
    };
    let waited = tokio::time::timeout(PATIENCE, await_condition(api, &name, decided)).await;
    let waited = waited.with_context(|| format!("the request {name} for a certificate is not approved"))?;
    let request = waited.context("waiting for a certificate")?;
    let Some(request) = request else { bail!("the request {name} for a certificate was deleted") };
    if let Some(why) = refusal(&request) {
        bail!("the request {name} for a certificate was refused: {why}");
    }
    Ok(certificate(&request).context("no certificate was issued")?.to_vec())
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    request.status.as_ref()?.certificate.as_ref().map(|bytes| &*bytes.0).filter(|bytes| !bytes.is_empty())
}

fn refusal(request: &CertificateSigningRequest) -> Option<String> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    let refused = conditions.iter().find(|condition| matches!(&*condition.type_, "Denied" | "Failed"))?;
    Some(refused.message.clone().unwrap_or_default())
}

fn current(pem: &[u8]) -> Result<Current> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).context("using the key")?;
    let first = chain.first().context("there is no certificate")?;
    let (_, parsed) = X509Certificate::from_der(first).context("parsing the certificate")?;
    let time = |seconds: i64| Timestamp::from_second(seconds).context("a time in the certificate");
    let validity = parsed.validity();
    let (start, end) = (time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?);
    Ok(Current { renew: renewal(start, end, fraction()?), end, key: Arc::new(CertifiedKey::new(chain, key)) })
}

/// As upstream: between 70 and 90 % of its life, so that not all nodes ask at once.
fn renewal(start: Timestamp, end: Timestamp, fraction: f64) -> Timestamp {
    let life = end.duration_since(start).as_secs_f64().max(0.0);
    start + Duration::from_secs_f64(life * (0.7 + 0.2 * fraction))
}

/// Random, from 0 to 1.
fn fraction() -> Result<f64> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX))
}

/// Where a node keeps one.
pub fn path(data_dir: &Path, purpose: &str) -> PathBuf {
    data_dir.join("tls").join(format!("node-{purpose}.pem"))
}

impl fmt::Debug for Rotating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotating").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Rotating {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.certified().is_some()
    }
}

impl ResolvesServerCert for Rotating {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    #[test]
    fn a_certificate_is_replaced_before_its_end() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (start, end) = (time("2026-01-01T00:00:00Z"), time("2026-01-11T00:00:00Z"));
        assert_eq!(renewal(start, end, 0.0), time("2026-01-08T00:00:00Z"));
        assert_eq!(renewal(start, end, 1.0), time("2026-01-10T00:00:00Z"));
        assert_eq!(renewal(end, start, 1.0), end);
    }

    #[test]
    fn what_is_on_disk_is_taken_over_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(dir.path()).expect("an authority");
        let leaf = authority.client("system:node:n", &["system:nodes"]).expect("a certificate");
        let path = dir.path().join("node-client.pem");
        let open = || Rotating::open(path.clone(), "n", Purpose::Client);
        assert!(!open().expect("none").holds());
        std::fs::write(&path, format!("{}{}", leaf.cert_pem, leaf.key_pem)).expect("written");
        let found = open().expect("found");
        assert!(found.holds() && found.has_certs());
        std::fs::write(&path, "rubbish").expect("written");
        let error = open().expect_err("refused");
        assert!(format!("{error:#}").contains("node-client.pem"), "{error:#}");
    }
}
