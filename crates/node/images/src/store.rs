//! The image store of one data directory, shared by every process that opens it.
//!
//! ```text
//! index.json   images, names, origins; replaced whole under index.lock
//! layers/      one overlay directory per layer, named by its chain; renamed here when whole
//! blobs/       verified compressed layers of pulls that have not finished
//! staging/     what is being written, and parts of blobs whose connection broke
//! store.lock   shared by those who add layers, exclusive for who deletes some
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::archive;
use crate::disk::{self, Hold};
use crate::error::{ImportError, PullError, StoreError};
use crate::image::Image;
use crate::index::{Contents, Index, Record};
use crate::name::Name;
use crate::pull::{self, Patience, Progress, Silent};
use crate::registries::{Auth, Registries};
use crate::unpack::Layers;

/// Cheap to clone.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

pub(crate) struct Inner {
    pub root: PathBuf,
    pub registries: Registries,
    pub layers: Layers,
    pub index: Index,
    /// One pull of a name at a time; the second finds what the first fetched.
    pulling: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    silent: Silent,
}

impl ImageStore {
    /// Opens or makes the store in `root`. When no other process works in it, clears what crashed ones left. Blocks for
    /// some file operations.
    pub fn open(root: &Path, registries: Registries) -> Result<Self, StoreError> {
        let (layers, staging) = (root.join("layers"), root.join("staging"));
        // Layers hold set-id programs: only root may reach them.
        for directory in [root, &layers, &staging, &root.join("blobs")] {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory).map_err(StoreError::io("create", directory))?;
        }
        let inner = Inner {
            root: root.to_owned(),
            registries,
            layers: Layers::new(layers, staging),
            index: Index::new(root),
            pulling: Mutex::default(),
            silent: Silent::default(),
        };
        inner.sweep()?;
        Ok(Self(Arc::new(inner)))
    }

    /// Makes the image of that name present as the registry has it now. `credentials` are tried in order on the image's
    /// own registry after what registries.yaml says. Safe to drop: what was fetched whole is kept.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &[Auth],
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, PullError> {
        self.pull_with(reference, credentials, Patience::Long, progress).await
    }

    /// Like [`Self::pull`], where an image that is here can stand in: a registry that is not reached within a second or
    /// two is given up, and for some seconds nobody asks it again in this way.
    pub async fn refresh(
        &self,
        reference: &str,
        credentials: &[Auth],
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, PullError> {
        self.pull_with(reference, credentials, Patience::Short, progress).await
    }

    async fn pull_with(
        &self,
        reference: &str,
        credentials: &[Auth],
        patience: Patience,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image, PullError> {
        let name = Name::parse(reference)?;
        let turn = self.0.turn(&name.to_string());
        let _turn = turn.lock().await;
        if patience == Patience::Short && self.0.silent.knows(name.registry()) {
            let endpoint = name.registry().to_owned();
            let source = "it could not be reached a moment ago".into();
            return Err(PullError::Unreachable { image: name.to_string(), endpoint, source });
        }
        let pulled = pull::pull(&self.0, &name, credentials, patience, progress).await;
        self.0.silent.note(name.registry(), !matches!(pulled, Err(PullError::Unreachable { .. })));
        pulled
    }

    /// The image of a name (short names are completed), a `name@digest` or an image id, if it is on this node. `None`
    /// also for what is no name: [`Name::parse`] says why.
    pub fn get(&self, reference: &str) -> Option<Image> {
        let contents = self.contents();
        let key = key(reference)?;
        contents.find(&key).map(|(id, record)| self.0.image(id, record))
    }

    /// Every image, by id.
    pub fn list(&self) -> Vec<Image> {
        self.contents().images.iter().map(|(id, record)| self.0.image(id, record)).collect()
    }

    /// Adds the images of an archive made by `docker save` or in OCI layout, plain or gzip.
    pub async fn import(&self, archive: &Path) -> Result<Vec<Image>, ImportError> {
        let (inner, archive) = (self.0.clone(), archive.to_owned());
        tokio::task::spawn_blocking(move || archive::import(&inner, &archive)).await?
    }

    /// Takes a name off its image, and deletes the image with its last name. Containers that run from it must be gone:
    /// their root file system is made of its layers. Waits for pulls under way.
    pub async fn remove(&self, reference: &str) -> Result<(), StoreError> {
        let missing = || StoreError::NoSuchImage(reference.to_owned());
        let key = key(reference).ok_or_else(missing)?;
        let inner = self.0.clone();
        let removed = tokio::task::spawn_blocking(move || -> Result<bool, StoreError> {
            let _alone = inner.lock(Hold::Exclusive)?;
            let removed = inner.index.update(|contents| contents.remove(&key))?;
            inner.delete_unused()?;
            Ok(removed)
        });
        if removed.await?? { Ok(()) } else { Err(missing()) }
    }

    /// What the index says, or said last: an index that cannot be read must not make images vanish silently.
    fn contents(&self) -> Arc<Contents> {
        self.0.index.read().unwrap_or_else(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "read image index");
            self.0.index.last()
        })
    }
}

/// What the index knows an image by.
fn key(reference: &str) -> Option<String> {
    if reference.starts_with("sha256:") {
        return Some(reference.to_owned());
    }
    let name = Name::parse(reference).ok()?;
    Some(match name.digest() {
        Some(digest) => name.at(digest),
        None => name.to_string(),
    })
}

impl Inner {
    pub fn image(&self, id: &str, record: &Record) -> Image {
        Image {
            id: id.to_owned(),
            repo_digests: record.repo_digests.iter().cloned().collect(),
            references: record.references.iter().cloned().collect(),
            size: record.size,
            origin: record.origin,
            config: record.config.clone(),
            layers: record.layers.iter().rev().map(|chain| self.layers.path(chain)).collect(),
        }
    }

    /// Records an image whose layers are all unpacked. The caller holds the store.
    pub fn publish(&self, id: &str, record: Record) -> Result<Image, StoreError> {
        self.layers.sync().map_err(StoreError::io("sync", &self.root))?;
        self.index.update(|contents| {
            contents.put(id, record);
            self.image(id, &contents.images[id])
        })
    }

    pub fn lock(&self, hold: Hold) -> Result<File, StoreError> {
        let path = self.root.join("store.lock");
        disk::lock(&path, hold).map_err(StoreError::io("lock", path))
    }

    pub fn staging(&self, stem: &str) -> PathBuf {
        self.root.join("staging").join(disk::unique(stem))
    }

    pub fn blob(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(digest.replace(':', "-"))
    }

    /// What a broken pull left of a blob, for the next one to go on with.
    pub fn part(&self, digest: &str) -> PathBuf {
        self.root.join("staging").join(digest.replace(':', "-"))
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let lock = self.root.join("store.lock");
        let Some(_alone) = disk::try_lock(&lock).map_err(StoreError::io("lock", lock))? else { return Ok(()) };
        self.delete_unused()
    }

    /// The caller has the store to itself.
    fn delete_unused(&self) -> Result<(), StoreError> {
        for name in ["staging", "blobs"] {
            let directory = self.root.join(name);
            clear(&directory).map_err(StoreError::io("clear", directory))?;
        }
        let keep = self.index.read()?.layers();
        self.layers.retain(&keep).map_err(StoreError::io("delete unused layers of", &self.root))
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = pulling.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        pulling.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

fn clear(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
