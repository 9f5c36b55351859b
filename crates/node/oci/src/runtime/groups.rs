//! The cgroups above containers, which whoever runs the containers makes: of pods, and of what pods share.

use std::path::PathBuf;

use super::{Runtime, blocking};
use crate::Error;
use crate::cgroup::{Cgroups, Usage};
use crate::layout::is_valid_id;
use crate::spec::Resources;

/// Those of one data directory. Each is named by its path below the directory's own ([`crate::RuntimeConfig::cgroup_root`]).
#[derive(Clone, Debug)]
pub struct Groups {
    root: PathBuf,
}

impl Groups {
    pub fn new(cgroup_root: &str) -> Self {
        Self { root: PathBuf::from(cgroup_root) }
    }

    /// From the root of every hierarchy.
    pub fn path(&self, group: &str) -> PathBuf {
        self.root.join(group)
    }

    fn valid(&self, group: &str) -> Result<PathBuf, Error> {
        match group.split('/').all(is_valid_id) {
            true => Ok(self.path(group)),
            false => Err(Error::InvalidId { what: "cgroup", id: group.to_owned() }),
        }
    }

    /// Makes it, or finds it, and limits it.
    pub async fn limit(&self, group: &str, resources: Resources) -> Result<(), Error> {
        let group = self.valid(group)?;
        blocking(move || {
            let cgroups = Cgroups::discover()?;
            cgroups.create(&group)?;
            cgroups.limit(&group, &resources)
        })
        .await
    }

    /// Changes the limits of what runs; see [`Runtime::change_sandbox`].
    pub async fn change(&self, group: &str, resources: Resources) -> Result<(), Error> {
        let group = self.valid(group)?;
        blocking(move || Cgroups::discover()?.change(&group, &resources)).await
    }

    /// What it and all below use; `None` while there is no such.
    pub async fn usage(&self, group: &str) -> Result<Option<Usage>, Error> {
        let group = self.path(group);
        blocking(move || Ok(Cgroups::discover()?.usage(&group))).await
    }

    /// With those below; nothing may live in them.
    pub async fn remove(&self, group: &str) -> Result<(), Error> {
        let group = self.valid(group)?;
        blocking(move || Cgroups::discover()?.remove(&group)).await
    }
}

impl Runtime {
    pub(super) fn groups(&self) -> Groups {
        Groups::new(&self.0.config.cgroup_root)
    }
}
