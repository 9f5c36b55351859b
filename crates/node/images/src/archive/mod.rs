//! Import of image archives: what `docker save` writes, and OCI layouts in a tar file.

mod docker;
mod members;
mod oci;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Hold, sha256};
use crate::error::{ImportError, StoreError};
use crate::image::{ConfigFile, Image, Origin};
use crate::index::Record;
use crate::store::Inner;
use crate::unpack::ChainId;
use members::Members;

/// One image of an archive: where its parts are.
struct Found {
    references: Vec<String>,
    repo_digests: Vec<String>,
    config: Vec<u8>,
    /// Members of the archive, bottom first.
    layers: Vec<String>,
}

pub fn import(store: &Inner, path: &Path) -> Result<Vec<Image>, ImportError> {
    let in_store = |source: StoreError| ImportError::Store { path: path.to_owned(), source };
    let _adding = store.lock(Hold::Shared).map_err(in_store)?;
    let archive = Archive { path, members: open(store, path)? };
    let found = if archive.members.contains("manifest.json") {
        docker::images(&archive)?
    } else if archive.members.contains("index.json") {
        oci::images(&archive)?
    } else {
        return Err(archive.malformed("has neither manifest.json nor index.json: not an image archive"));
    };
    if found.is_empty() {
        return Err(archive.malformed("contains no image for this machine"));
    }
    found.into_iter().map(|found| archive.add(store, found)).collect()
}

/// Opens the archive for random access: its lists may come after the layers. A compressed one is expanded aside, into
/// a file that has lost its name already.
fn open(store: &Inner, path: &Path) -> Result<Members, ImportError> {
    let read = |operation| move |source| ImportError::Read { operation, path: path.to_owned(), source };
    let mut file = File::open(path).map_err(read("open"))?;
    let mut head = [0; 2];
    let length = io::Read::read(&mut file, &mut head).map_err(read("read"))?;
    io::Seek::rewind(&mut file).map_err(read("read"))?;
    if head[..length] == [0x1f, 0x8b] {
        let staged = store.staging("archive");
        let io = |source| ImportError::Read { operation: "expand", path: path.to_owned(), source };
        let mut plain = File::options().create_new(true).read(true).write(true).open(&staged).map_err(io)?;
        std::fs::remove_file(&staged).map_err(io)?;
        io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut plain).map_err(io)?;
        io::Seek::rewind(&mut plain).map_err(io)?;
        file = plain;
    }
    Members::list(file).map_err(read("read"))
}

struct Archive<'a> {
    path: &'a Path,
    members: Members,
}

impl Archive<'_> {
    fn malformed(&self, what: impl Into<String>) -> ImportError {
        ImportError::Malformed { path: PathBuf::from(self.path), what: what.into() }
    }

    fn read_error(&self, source: io::Error) -> ImportError {
        ImportError::Read { operation: "read", path: self.path.to_owned(), source }
    }

    /// A small member, whole.
    fn bytes(&self, member: &str) -> Result<Vec<u8>, ImportError> {
        const LARGEST: u64 = 16 << 20;
        let mut reader =
            self.members.open(member).ok_or_else(|| self.malformed(format!("lacks {member}, which it refers to")))?;
        if reader.len() > LARGEST {
            return Err(self.malformed(format!("{member} is larger than {LARGEST} bytes")));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut reader, &mut bytes).map_err(|source| self.read_error(source))?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, member: &str, bytes: &[u8]) -> Result<T, ImportError> {
        serde_json::from_slice(bytes).map_err(|source| ImportError::Json {
            path: self.path.to_owned(),
            member: member.to_owned(),
            source,
        })
    }

    fn add(&self, store: &Inner, found: Found) -> Result<Image, ImportError> {
        let mut config: ConfigFile = self.json("the image configuration", &found.config)?;
        let diff_ids = std::mem::take(&mut config.rootfs.diff_ids);
        if diff_ids.len() != found.layers.len() {
            return Err(self.malformed(format!(
                "has {} layers where the image configuration lists {}",
                found.layers.len(),
                diff_ids.len()
            )));
        }
        let chains =
            ChainId::of(&diff_ids).ok_or_else(|| self.malformed("has a configuration with a bad layer digest"))?;
        let mut size = 0;
        for (position, member) in found.layers.iter().enumerate() {
            let layer = self.members.open(member).ok_or_else(|| self.malformed(format!("lacks layer {member}")))?;
            size += layer.len();
            store
                .layers
                .add(layer, &diff_ids[position], &chains[position], &chains[..position])
                .map_err(|source| ImportError::Layer { path: self.path.to_owned(), layer: member.clone(), source })?;
        }
        let record = Record {
            references: found.references.into_iter().collect(),
            repo_digests: found.repo_digests.into_iter().collect(),
            size,
            origin: Origin::Imported,
            config: config.run_config(),
            layers: chains,
        };
        let id = sha256(&found.config);
        store.publish(&id, record).map_err(|source| ImportError::Store { path: self.path.to_owned(), source })
    }
}
