//! Images made up in memory, as archives and as blobs of a registry.
#![allow(clippy::unwrap_used, dead_code)] // each test file uses its part

pub mod registry;

use std::io::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// A tar archive of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub struct Blob {
    pub media_type: &'static str,
    pub content: Vec<u8>,
}

impl Blob {
    pub fn digest(&self) -> String {
        sha256(&self.content)
    }

    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.content.len()})
    }
}

pub struct TestImage {
    pub config: Blob,
    /// Bottom first: as they travel, and uncompressed.
    pub layers: Vec<Blob>,
    pub plain: Vec<Vec<u8>>,
    pub manifest: Blob,
}

impl TestImage {
    /// Three layers in the three compressions; `mark` makes the image another one.
    pub fn new(mark: &str) -> Self {
        let plain = vec![
            tar(&[("etc/base", b"base"), ("etc/gone", b"x")]),
            tar(&[("etc/.wh.gone", b""), ("etc/mark", mark.as_bytes())]),
            tar(&[("top", b"top")]),
        ];
        let layers = vec![
            Blob { media_type: "application/vnd.oci.image.layer.v1.tar+gzip", content: gzip(&plain[0]) },
            Blob {
                media_type: "application/vnd.oci.image.layer.v1.tar+zstd",
                content: zstd::encode_all(&plain[1][..], 1).unwrap(),
            },
            Blob { media_type: "application/vnd.oci.image.layer.v1.tar", content: plain[2].clone() },
        ];
        Self::of(plain, layers)
    }

    pub fn of(plain: Vec<Vec<u8>>, layers: Vec<Blob>) -> Self {
        let diff_ids: Vec<_> = plain.iter().map(|layer| sha256(layer)).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Cmd": ["serve"], "Env": ["A=b"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Blob {
            media_type: "application/vnd.oci.image.config.v1+json",
            content: serde_json::to_vec(&config).unwrap(),
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob {
            media_type: "application/vnd.oci.image.manifest.v1+json",
            content: serde_json::to_vec(&manifest).unwrap(),
        };
        Self { config, layers, plain, manifest }
    }

    /// An index with this image among those of other platforms.
    pub fn index(&self) -> Blob {
        let of = |digest: String, architecture: &str| {
            json!({"mediaType": self.manifest.media_type, "digest": digest, "size": self.manifest.content.len(),
                   "platform": {"os": "linux", "architecture": architecture}})
        };
        let native = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [of(sha256(b"other"), "s390x"), of(self.manifest.digest(), native)],
        });
        Blob { media_type: "application/vnd.oci.image.index.v1+json", content: serde_json::to_vec(&index).unwrap() }
    }

    /// What `docker save` writes; the list comes last.
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let config_name = format!("{}.json", &self.config.digest()[7..]);
        let names: Vec<_> = (0..self.plain.len()).map(|number| format!("{number}/layer.tar")).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut files: Vec<(&str, &[u8])> = vec![(&config_name, &self.config.content)];
        for (name, layer) in names.iter().zip(&self.plain) {
            files.push((name, layer));
        }
        files.push(("manifest.json", &manifest));
        tar(&files)
    }

    pub fn oci_archive(&self, annotations: Value) -> Vec<u8> {
        let index = self.index();
        let top = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": index.media_type, "digest": index.digest(), "size": index.content.len(),
             "annotations": annotations},
        ]});
        let top = serde_json::to_vec(&top).unwrap();
        let place = |blob: &Blob| format!("blobs/{}", blob.digest().replace(':', "/"));
        let blobs = self.layers.iter().chain([&self.config, &self.manifest, &index]);
        let blobs: Vec<(String, &[u8])> = blobs.map(|blob| (place(blob), &blob.content[..])).collect();
        let mut files: Vec<(&str, &[u8])> = vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)];
        files.extend(blobs.iter().map(|(name, content)| (name.as_str(), *content)));
        files.push(("index.json", &top));
        tar(&files)
    }
}

/// The whole chain, as a log or an Event shows it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
