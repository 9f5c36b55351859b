//! One endpoint spoken to with one identity.

use std::sync::OnceLock;
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};

use super::for_this_machine;
use super::outcome::Failure;
use super::patience::Patience;
use crate::disk::is_sha256;
use crate::image::architecture;
use crate::name::Name;
use crate::registries::{Auth, Endpoint};

/// Silence in the middle of an answer.
const READ: Duration = Duration::from_secs(60);

pub struct Session {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
}

/// The manifest for this machine.
pub struct Resolved {
    /// Of what the name points to, which may be an index.
    pub digest: String,
    pub manifest: OciImageManifest,
}

impl Session {
    pub async fn open(
        name: &Name,
        endpoint: &Endpoint,
        auth: Option<Auth>,
        patience: Patience,
    ) -> Result<Self, Failure> {
        // Idempotent; whichever provider the process chose first stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = endpoint.tls.ca.iter();
        let config = ClientConfig {
            protocol: if endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            // Plain HTTP checks nothing; saying so spares loading the host's certificate authorities.
            accept_invalid_certificates: endpoint.tls.skip_verify || endpoint.plain_http,
            extra_root_certificates: ca
                .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
                .collect(),
            connect_timeout: Some(patience.connect()),
            read_timeout: Some(READ),
            user_agent: concat!("sampan/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Takes milliseconds. Fails where the host has no certificate authorities, which is as good as no network.
        let client = tokio::task::spawn_blocking(move || {
            let tls_certs_only = if config.accept_invalid_certificates { Vec::new() } else { host_authorities() };
            Client::try_from(ClientConfig { tls_certs_only, ..config })
        });
        let client = client.await?.map_err(|error| Failure::Unreachable(error.into()))?;
        let auth = match auth {
            None => RegistryAuth::Anonymous,
            Some(Auth::Basic { username, password }) => RegistryAuth::Basic(username, password),
            Some(Auth::Bearer(token)) => RegistryAuth::Bearer(token),
        };
        Ok(Self { client, reference: reference(name, endpoint), auth })
    }

    pub async fn resolve(&self) -> Result<Resolved, Failure> {
        // Asked for by itself, since later requests swallow why it failed.
        self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await?;
        let (manifest, digest) = self.client.pull_manifest(&self.reference, &self.auth).await?;
        let manifest = match manifest {
            OciManifest::Image(manifest) => manifest,
            OciManifest::ImageIndex(index) => {
                let entry = for_this_machine(&index.manifests).ok_or_else(|| {
                    Failure::Unsupported(format!("no match for platform linux/{} in manifest", architecture()))
                })?;
                if !is_sha256(&entry.digest) {
                    let digest = &entry.digest;
                    return Err(Failure::corrupt(format!("index refers to {digest:?}, which is no sha256 digest")));
                }
                let exact = self.reference.clone_with_digest(entry.digest.clone());
                match self.client.pull_manifest(&exact, &self.auth).await?.0 {
                    OciManifest::Image(manifest) => manifest,
                    OciManifest::ImageIndex(_) => {
                        return Err(Failure::Unsupported("index within an index".to_owned()));
                    }
                }
            }
        };
        let parts = manifest.layers.iter().chain([&manifest.config]);
        if let Some(bad) = parts.map(|part| &part.digest).find(|digest| !is_sha256(digest)) {
            return Err(Failure::corrupt(format!("manifest refers to {bad:?}, which is no sha256 digest")));
        }
        Ok(Resolved { digest, manifest })
    }

    /// The blob's bytes as they come, from the returned offset: `offset`, or 0 from a registry that serves no ranges.
    /// From 0 they are checked against the blob's digest at the end.
    pub async fn stream_from(
        &self,
        blob: &OciDescriptor,
        offset: u64,
    ) -> Result<(BoxStream<'static, Result<impl AsRef<[u8]> + Send + use<>, std::io::Error>>, u64), Failure> {
        if offset == 0 {
            return Ok((self.client.pull_blob_stream(&self.reference, blob).await?.stream, 0));
        }
        match self.client.pull_blob_stream_partial(&self.reference, blob, offset, None).await? {
            BlobResponse::Full(whole) => Ok((whole.stream, 0)),
            BlobResponse::Partial(rest) => Ok((rest.stream, offset)),
        }
    }

    /// A blob that fits in memory: a configuration.
    pub async fn small_blob(&self, blob: &OciDescriptor) -> Result<Vec<u8>, Failure> {
        const LARGEST: usize = 8 << 20;
        let (mut stream, _) = self.stream_from(blob, 0).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.try_next().await.map_err(Failure::from_stream)? {
            bytes.extend_from_slice(chunk.as_ref());
            if bytes.len() > LARGEST {
                return Err(Failure::corrupt(format!("configuration is larger than {LARGEST} bytes")));
            }
        }
        Ok(bytes)
    }
}

/// The host's certificate authorities. Read once: they are hundreds of files, and every pod's start asks a registry.
fn host_authorities() -> Vec<Certificate> {
    static READ: OnceLock<Vec<Certificate>> = OnceLock::new();
    if let Some(read) = READ.get() {
        return read.clone();
    }
    let found = rustls_native_certs::load_native_certs().certs;
    let found: Vec<_> =
        found.iter().map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() }).collect();
    // None yet: they may be installed while this process runs.
    if found.is_empty() { found } else { READ.get_or_init(|| found).clone() }
}

/// The name as the endpoint knows it. Mirrors are also told which registry they stand in for.
fn reference(name: &Name, endpoint: &Endpoint) -> Reference {
    let registry = endpoint.mirror_of.clone().unwrap_or_else(|| endpoint.host.clone());
    let repository = endpoint.repository.clone();
    let mut reference = match (name.digest(), name.tag()) {
        (Some(digest), _) => Reference::with_digest(registry, repository, digest.to_owned()),
        (None, tag) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
    };
    if endpoint.mirror_of.is_some() {
        reference.set_mirror_registry(endpoint.host.clone());
    }
    reference
}
