//! Where volumes of drivers are, and what is written down about each: all that a later agent needs to take it away.
//! Paths and names of the records' fields are the kubelet's, because drivers' DaemonSets mount these very directories.
//!
//! ```text
//! <root>/plugins_registry/                                            sockets of registrars
//! <root>/plugins/kubernetes.io/csi/<driver>/<sha256>/globalmount      staged, beside its vol_data.json
//! <root>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount          published, beside its vol_data.json
//! ```

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use api::csi::{Handle, unique_name};
use base_sys::mounts;
use serde::{Deserialize, Serialize};

const RECORD: &str = "vol_data.json";
const NEW_RECORD: &str = ".vol_data.json.new";
const PLUGIN: &str = "kubernetes.io~csi";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    pub(super) driver_name: String,
    pub(super) volume_handle: String,
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub(super) spec_vol_id: String,
    /// Of the VolumeAttachment that the volume is used by; empty: it needs none.
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub(super) attachment_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) volume_lifecycle_mode: String,
    /// The directory of the agent whose it is: another kubelet's volumes are none of ours.
    pub(super) owner: String,
    pub(super) phase: Phase,
}

/// How far the volume has come to its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Its driver has not been asked, or has refused.
    Awaited,
    /// Its driver has been asked, and may have done it.
    #[default]
    Asked,
    Done,
}

impl Record {
    pub(super) fn id(&self) -> Handle {
        Handle { driver: self.driver_name.clone(), handle: self.volume_handle.clone() }
    }
}

/// Where a driver mounts something: a directory of ours, and the mount in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    dir: PathBuf,
    mount: &'static str,
}

impl Place {
    pub(super) fn mount(&self) -> PathBuf {
        self.dir.join(self.mount)
    }

    /// Writes the record, whole or not at all.
    pub(super) fn record(&self, record: &Record) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).create(&self.dir)?;
        let new = self.dir.join(NEW_RECORD);
        std::fs::write(&new, serde_json::to_vec(record)?)?;
        std::fs::rename(new, self.dir.join(RECORD))
    }

    /// `None` where nothing was begun.
    pub(super) fn recorded(&self) -> io::Result<Option<Record>> {
        match std::fs::read(self.dir.join(RECORD)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_mounted(&self) -> io::Result<bool> {
        match self.mount().canonicalize() {
            Ok(path) => mounts::is_mounted(&path),
            // What its server no longer answers for is still mounted.
            Err(error) if error.kind() != io::ErrorKind::NotFound => mounts::is_mounted(&self.mount()),
            Err(_) => Ok(false),
        }
    }

    /// Once the driver has let go: what it left mounted goes, and the directories; what they hold stays.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mount = self.mount();
        if self.is_mounted()? {
            mounts::unmount(&mount)?;
        }
        gone(std::fs::remove_dir(&mount).or_else(|error| match error.kind() {
            // A block volume's, or a driver that published a file.
            io::ErrorKind::NotADirectory => std::fs::remove_file(&mount),
            _ => Err(error),
        }))?;
        for file in [RECORD, NEW_RECORD] {
            gone(std::fs::remove_file(self.dir.join(file)))?;
        }
        gone(std::fs::remove_dir(&self.dir))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) struct Layout {
    root: PathBuf,
    owner: String,
}

impl Layout {
    pub(super) fn new(root: &Path, owner: &Path) -> Self {
        Self { root: root.to_owned(), owner: owner.to_string_lossy().into_owned() }
    }

    /// Whose what is written down below the root is.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Makes the directories that drivers mount, in a mount that passes on what they mount there.
    pub(super) fn prepare(&self) -> io::Result<()> {
        for dir in [self.registry(), self.root.join("plugins"), self.pods()] {
            std::fs::create_dir_all(&dir)?;
        }
        mounts::share(&self.root.canonicalize()?)
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    fn drivers(&self) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi")
    }

    fn volumes_of(&self, uid: &str) -> PathBuf {
        self.pods().join(uid).join("volumes").join(PLUGIN)
    }

    pub(super) fn published(&self, uid: &str, volume: &str) -> Place {
        Place { dir: self.volumes_of(uid).join(volume), mount: "mount" }
    }

    pub(super) fn staged(&self, volume: &Handle) -> Place {
        let hash = api::csi::digest(&[&volume.handle]);
        Place { dir: self.drivers().join(&volume.driver).join(hash), mount: "globalmount" }
    }

    /// What is, or may be, published for a pod.
    pub(super) fn all_published(&self, uid: &str) -> Vec<(Place, Record)> {
        self.ours(entries(&self.volumes_of(uid)).into_iter().map(|dir| Place { dir, mount: "mount" }))
    }

    pub(super) fn all_staged(&self) -> Vec<(Place, Record)> {
        let places = entries(&self.drivers()).into_iter().flat_map(|driver| entries(&driver));
        self.ours(places.map(|dir| Place { dir, mount: "globalmount" }))
    }

    fn ours(&self, places: impl Iterator<Item = Place>) -> Vec<(Place, Record)> {
        let read = |place: Place| match place.recorded() {
            Ok(record) => record.filter(|record| record.owner == self.owner).map(|record| (place, record)),
            Err(error) => {
                tracing::error!(dir = %place.dir.display(), %error, "what is mounted here is not known");
                None
            }
        };
        places.filter_map(read).collect()
    }

    /// The pods that something may be published for.
    pub(super) fn pods_with_volumes(&self) -> Vec<String> {
        let uids = entries(&self.pods()).into_iter();
        let uids = uids.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()));
        uids.filter(|uid| self.holds(uid)).collect()
    }

    pub(super) fn holds(&self, uid: &str) -> bool {
        !self.all_published(uid).is_empty()
    }

    /// Whether some pod may still use the volume.
    pub(super) fn is_used(&self, volume: &Handle) -> bool {
        let all = self.pods_with_volumes().into_iter().flat_map(|uid| self.all_published(&uid));
        all.into_iter().any(|(_, record)| record.id() == *volume)
    }

    /// The volumes that must stay attached, as the node's status names them.
    pub(super) fn in_use(&self) -> BTreeSet<String> {
        let published = self.pods_with_volumes().into_iter().flat_map(|uid| self.all_published(&uid));
        let all = published.chain(self.all_staged()).map(|(_, record)| record);
        all.filter(|record| !record.attachment_id.is_empty())
            .map(|record| unique_name(&record.driver_name, &record.volume_handle))
            .collect()
    }

    /// Everything of ours, and the directories that are then empty.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        for uid in self.pods_with_volumes() {
            self.all_published(&uid).iter().try_for_each(|(place, _)| place.remove())?;
            self.forget(&uid)?;
        }
        self.all_staged().iter().try_for_each(|(place, _)| place.remove())?;
        let Ok(root) = self.root.canonicalize() else { return Ok(()) };
        if self.shares_itself(&root)? {
            mounts::unmount(&root)?;
        }
        let parents = [self.drivers(), self.root.join("plugins/kubernetes.io"), self.root.join("plugins")];
        let drivers = entries(&self.drivers()).into_iter();
        for dir in drivers.chain(parents).chain([self.registry(), self.pods(), self.root.clone()]) {
            // What others have put there stays.
            let _ = std::fs::remove_dir(dir);
        }
        Ok(())
    }

    /// Whether the root is mounted on itself, which [`Self::prepare`] does: a disk of its own is another device.
    fn shares_itself(&self, root: &Path) -> io::Result<bool> {
        let device = |path: &Path| path.metadata().map(|meta| meta.dev());
        let Some(parent) = root.parent() else { return Ok(false) };
        Ok(mounts::is_mounted(root)? && device(root)? == device(parent)?)
    }

    /// The directories of a pod of which nothing is published any more.
    pub(super) fn forget(&self, uid: &str) -> io::Result<()> {
        let pod = self.pods().join(uid);
        for dir in [self.volumes_of(uid), pod.join("volumes"), pod] {
            match std::fs::remove_dir(&dir) {
                // Another kubelet's pod, or a later try's.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
                result => gone(result)?,
            }
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    // What is not there holds nothing.
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
