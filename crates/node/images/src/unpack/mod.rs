//! Layers on disk: one directory per layer in overlayfs form, named by its chain, written aside and renamed when whole.

mod apply;
mod decompress;
mod tree;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use apply::LayerError;
use apply::Limits;

use crate::disk::{Hashing, is_sha256, sha256};

/// Far above any real image, far below what fills a disk unseen.
const LIMITS: Limits = Limits { bytes: 64 << 30, entries: 8_000_000 };

/// Identifies a layer together with everything below it: what a layer unpacks to depends on the layers below, since
/// directories that it names only in passing take their owner and mode from there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct ChainId(String);

impl ChainId {
    /// The chains of a stack of uncompressed layers, bottom first, as the OCI image specification defines them. `None`
    /// when one is not identified by a digest.
    pub fn of(diff_ids: &[String]) -> Option<Vec<Self>> {
        if !diff_ids.iter().all(|diff_id| is_sha256(diff_id)) {
            return None;
        }
        let mut chains: Vec<Self> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            let chain = match chains.last() {
                None => diff_id.clone(),
                Some(Self(below)) => sha256(format!("{below} {diff_id}").as_bytes()),
            };
            chains.push(Self(chain));
        }
        Some(chains)
    }

    /// Half of the digest: 128 bits name a layer safely, and an overlay's options must fit one page with every lower
    /// directory in them.
    fn directory(&self) -> &str {
        let hex = self.0.strip_prefix("sha256:").unwrap_or(&self.0);
        hex.get(..32).unwrap_or(hex)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Layers {
    root: PathBuf,
    staging: PathBuf,
}

impl Layers {
    pub fn new(root: PathBuf, staging: PathBuf) -> Self {
        Self { root, staging }
    }

    pub fn path(&self, chain: &ChainId) -> PathBuf {
        self.root.join(chain.directory())
    }

    pub fn has(&self, chain: &ChainId) -> bool {
        self.path(chain).is_dir()
    }

    /// Unpacks a layer, plain or compressed, onto the layers of `below` (bottom first). Checks that the uncompressed
    /// stream is `diff_id`. On failure nothing stays.
    pub fn add(&self, blob: impl Read, diff_id: &str, chain: &ChainId, below: &[ChainId]) -> Result<(), LayerError> {
        if self.has(chain) {
            return Ok(());
        }
        let staged = Staged::new(&self.staging, chain)?;
        let parents: Vec<PathBuf> = below.iter().rev().map(|chain| self.path(chain)).collect();
        let mut stream = Hashing::new(decompress::plain(blob).map_err(LayerError::Read)?);
        let mut tree = tree::Tree::open(&staged.path, &parents).map_err(LayerError::write(&staged.path))?;
        apply::apply(&mut stream, &mut tree, &LIMITS)?;
        // What follows the end marker of the archive belongs to the digest too.
        std::io::copy(&mut stream, &mut std::io::sink()).map_err(LayerError::Read)?;
        let actual = stream.digest();
        if actual != diff_id {
            return Err(LayerError::Digest { expected: diff_id.to_owned(), actual });
        }
        staged.publish(&self.path(chain))
    }

    /// Makes everything unpacked so far survive a power failure.
    pub fn sync(&self) -> std::io::Result<()> {
        let root = rustix::fs::open(&self.root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::syncfs(root.as_fd())?)
    }

    /// Deletes every layer that is not in `keep`. The caller holds the store exclusively.
    pub fn retain(&self, keep: &[ChainId]) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if !keep.iter().any(|chain| entry.file_name() == chain.directory()) {
                // Renamed first, so that a layer is there whole or not at all.
                let doomed = self.staging.join(entry.file_name());
                std::fs::rename(entry.path(), &doomed)?;
                std::fs::remove_dir_all(doomed)?;
            }
        }
        Ok(())
    }
}

/// Unpacks a layer into the empty directory `root`, of at most `bytes` of content. For fuzzing.
#[cfg(feature = "test-util")]
pub fn unpack_into(blob: &[u8], root: &Path, bytes: u64) -> Result<(), LayerError> {
    let mut stream = decompress::plain(blob).map_err(LayerError::Read)?;
    let mut tree = tree::Tree::open(root, &[]).map_err(LayerError::write(root))?;
    apply::apply(&mut stream, &mut tree, &Limits { bytes, entries: LIMITS.entries })
}

/// A directory that disappears unless published.
struct Staged {
    path: PathBuf,
}

impl Staged {
    fn new(staging: &Path, chain: &ChainId) -> Result<Self, LayerError> {
        let path = staging.join(crate::disk::unique(chain.directory()));
        std::fs::create_dir(&path).map_err(LayerError::write(&path))?;
        Ok(Self { path })
    }

    fn publish(self, to: &Path) -> Result<(), LayerError> {
        match std::fs::rename(&self.path, to) {
            // Another process unpacked the same layer meanwhile: its copy is as good.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && to.is_dir() => Ok(()),
            other => other.map_err(LayerError::write(to)),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "remove partly unpacked layer");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
