//! The list of images, one JSON file. Replaced whole under a lock; readers see the old or the new one, and read again
//! when the file became another (`sampan image import` runs beside the server).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::disk::{self, Hold};
use crate::error::StoreError;
use crate::image::{ImageConfig, Origin};
use crate::unpack::ChainId;

/// By image id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub images: BTreeMap<String, Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub references: BTreeSet<String>,
    pub repo_digests: BTreeSet<String>,
    pub size: u64,
    pub origin: Origin,
    pub config: ImageConfig,
    /// Bottom first.
    pub layers: Vec<ChainId>,
}

impl Contents {
    /// Adds an image, or what is new about it. Its names leave the images that had them; those stay, nameless.
    pub fn put(&mut self, id: &str, new: Record) {
        for record in self.images.values_mut() {
            record.references.retain(|reference| !new.references.contains(reference));
        }
        match self.images.get_mut(id) {
            None => {
                self.images.insert(id.to_owned(), new);
            }
            Some(known) => {
                known.references.extend(new.references);
                known.repo_digests.extend(new.repo_digests);
                if new.origin == Origin::Imported {
                    known.origin = Origin::Imported;
                }
            }
        }
    }

    /// By complete name, `registry/repository@digest` or image id.
    pub fn find(&self, key: &str) -> Option<(&String, &Record)> {
        self.images
            .iter()
            .find(|(id, record)| *id == key || record.references.contains(key) || record.repo_digests.contains(key))
    }

    /// Takes a name off its image; the image goes with its last name, or at once when named by id or digest.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(id) = self.find(key).map(|(id, _)| id.clone()) else { return false };
        if let Some(record) = self.images.get_mut(&id)
            && record.references.remove(key)
            && !record.references.is_empty()
        {
            return true;
        }
        self.images.remove(&id);
        true
    }

    pub fn layers(&self) -> Vec<ChainId> {
        let all: BTreeSet<_> = self.images.values().flat_map(|record| record.layers.iter().cloned()).collect();
        all.into_iter().collect()
    }
}

/// Tells one version of the file from another. Every version is a new inode, and the time guards against its reuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
}

pub struct Index {
    path: PathBuf,
    lock: PathBuf,
    known: Mutex<(Option<Stamp>, Arc<Contents>)>,
}

impl Index {
    pub fn new(root: &Path) -> Self {
        Self { path: root.join("index.json"), lock: root.join("index.lock"), known: Mutex::new((None, Arc::default())) }
    }

    /// The present contents; one `stat` when nothing changed.
    pub fn read(&self) -> Result<Arc<Contents>, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(StoreError::io("open", &self.path)(error)),
        };
        let metadata = file.metadata().map_err(StoreError::io("stat", &self.path))?;
        let stamp = Stamp { inode: metadata.ino(), seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() };
        if known.0 != Some(stamp) {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut text).map_err(StoreError::io("read", &self.path))?;
            let contents = serde_json::from_slice(&text)
                .map_err(|source| StoreError::BadIndex { path: self.path.clone(), source })?;
            *known = (Some(stamp), Arc::new(contents));
        }
        Ok(known.1.clone())
    }

    /// What was read last.
    pub fn last(&self) -> Arc<Contents> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Changes the contents; other processes' changes are never lost. Blocks.
    pub fn update<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        let _lock = disk::lock(&self.lock, Hold::Exclusive).map_err(StoreError::io("lock", &self.lock))?;
        let mut contents = Contents::clone(&*self.read()?);
        let outcome = change(&mut contents);
        self.write(&contents).map_err(StoreError::io("write", &self.path))?;
        Ok(outcome)
    }

    fn write(&self, contents: &Contents) -> std::io::Result<()> {
        // One writer at a time: the name needs not be unique, and a crash leaves at most one behind.
        let next = self.path.with_extension("json.next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(contents)?)?;
        file.sync_all()?;
        std::fs::rename(&next, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}
