//! The OCI image layout: index.json names manifests or further indexes, blobs lie under their digests.

use oci_client::manifest::{ImageIndexEntry, OciImageIndex, OciManifest};

use super::docker::complete;
use super::{Archive, Found};
use crate::disk::{is_sha256, sha256};
use crate::error::ImportError;
use crate::name::Name;
use crate::pull::for_this_machine;

/// Indexes may hold indexes; nobody nests deeper.
const DEEPEST: u32 = 4;

pub fn images(archive: &Archive<'_>) -> Result<Vec<Found>, ImportError> {
    let index: OciImageIndex = archive.json("index.json", &archive.bytes("index.json")?)?;
    let mut found = Vec::new();
    for entry in index.manifests {
        let name =
            name(&entry).ok_or_else(|| archive.malformed(format!("gives manifest {} no image name", entry.digest)))?;
        let reference = complete(archive, &name)?;
        if let Some(mut image) = image(archive, &entry.digest, DEEPEST)? {
            let name = Name::parse(&reference)
                .map_err(|source| ImportError::Name { path: archive.path.to_owned(), source })?;
            // The digest that a pull would have been made by: of what index.json points to.
            image.repo_digests.push(name.at(&entry.digest));
            if name.tag().is_some() {
                image.references.push(reference);
            }
            found.push(image);
        }
    }
    Ok(found)
}

/// containerd's annotation is a complete name; the specification's may be a tag alone, which names nothing.
fn name(entry: &ImageIndexEntry) -> Option<String> {
    let annotations = entry.annotations.as_ref()?;
    let full = annotations.get("io.containerd.image.name");
    let short = annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
    full.or(short).cloned()
}

/// `None` when the manifest is of another platform.
fn image(archive: &Archive<'_>, digest: &str, deeper: u32) -> Result<Option<Found>, ImportError> {
    let bytes = blob(archive, digest)?;
    match archive.json(digest, &bytes)? {
        OciManifest::Image(manifest) => {
            let config = blob(archive, &manifest.config.digest)?;
            let layers = manifest
                .layers
                .iter()
                .map(|layer| member(&layer.digest).ok_or_else(|| bad_digest(archive, &layer.digest)))
                .collect::<Result<_, _>>()?;
            Ok(Some(Found { references: Vec::new(), repo_digests: Vec::new(), config, layers }))
        }
        OciManifest::ImageIndex(index) => match for_this_machine(&index.manifests) {
            Some(entry) if deeper > 0 => image(archive, &entry.digest, deeper - 1),
            Some(_) => Err(archive.malformed("nests indexes too deep")),
            None => Ok(None),
        },
    }
}

fn blob(archive: &Archive<'_>, digest: &str) -> Result<Vec<u8>, ImportError> {
    let member = member(digest).ok_or_else(|| bad_digest(archive, digest))?;
    let bytes = archive.bytes(&member)?;
    if sha256(&bytes) != digest {
        return Err(archive.malformed(format!("{member} does not have the digest in its name")));
    }
    Ok(bytes)
}

fn member(digest: &str) -> Option<String> {
    is_sha256(digest).then(|| format!("blobs/{}", digest.replace(':', "/")))
}

fn bad_digest(archive: &Archive<'_>, digest: &str) -> ImportError {
    archive.malformed(format!("refers to {digest:?}, which is no sha256 digest"))
}
