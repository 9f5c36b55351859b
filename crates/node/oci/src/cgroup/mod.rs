//! The cgroups of one data directory: `<cgroup root>/shims` and `<cgroup root>/<parent>/pod<uid>/<container>`, in every
//! mounted hierarchy (so that a service manager that tracks us in one of them does not count pods as ours).
//! Works on v1, hybrid and v2 hosts.

mod limits;
mod mounts;
mod processes;
mod usage;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::spec::Resources;
pub use limits::page_size;
pub(crate) use mounts::{Hierarchy, Version};
pub use usage::Usage;

/// The hierarchies mounted on this host.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

/// The cgroup that all shims of a data directory share: outside the pods, whose limits must not kill them.
pub(crate) fn shims(root: &str) -> PathBuf {
    Path::new(root).join("shims")
}

/// Of one pod, below the cgroup that it shares with others (empty: none).
pub(crate) fn pod(root: &str, parent: &str, uid: &str) -> PathBuf {
    Path::new(root).join(parent).join(format!("pod{uid}"))
}

impl Cgroups {
    /// Reads which hierarchies are mounted.
    pub(crate) fn discover() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(Self::parse(&text))
    }

    /// The same from the text of a mountinfo file.
    pub(crate) fn parse(mountinfo: &str) -> Self {
        Self { hierarchies: mounts::parse(mountinfo) }
    }

    /// All of them: on a hybrid host the empty v2 hierarchy, too, which only groups processes.
    pub(crate) fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The one v2 hierarchy when it is in charge.
    pub(crate) fn is_v2(&self) -> bool {
        self.hierarchies.iter().all(|h| h.version == Version::V2)
    }

    /// Makes the cgroup and its parents everywhere.
    pub(crate) fn create(&self, cgroup: &Path) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let mut directory = hierarchy.mount.clone();
            for part in cgroup {
                let parent = directory.clone();
                directory.push(part);
                match fs::create_dir(&directory) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                    Err(source) => return Err(Error::Cgroup { operation: "create it", path: directory, source }),
                }
                hierarchy.prepare(&parent, &directory).map_err(|source| Error::Cgroup {
                    operation: "enable its controllers",
                    path: directory.clone(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Moves the calling process into the cgroup.
    pub(crate) fn join(&self, cgroup: &Path) -> Result<(), Error> {
        self.join_where(cgroup, |_| true)
    }

    /// The same in the chosen hierarchies only.
    pub(crate) fn join_where(&self, cgroup: &Path, chosen: impl Fn(&Hierarchy) -> bool) -> Result<(), Error> {
        for hierarchy in self.hierarchies.iter().filter(|h| chosen(h)) {
            let path = hierarchy.mount.join(cgroup).join("cgroup.procs");
            fs::write(&path, "0").map_err(|source| Error::Cgroup { operation: "join it", path, source })?;
        }
        Ok(())
    }

    /// Sets the limits; a controller that the host lacks is an error only when a limit of it is asked for.
    pub(crate) fn limit(&self, cgroup: &Path, resources: &Resources) -> Result<(), Error> {
        let version = |controller: &str| self.controlling(controller).map(|hierarchy| hierarchy.version);
        for setting in limits::settings(resources, &version) {
            let Some(hierarchy) = self.controlling(setting.controller) else {
                if setting.optional {
                    continue;
                }
                let source = io::Error::new(ErrorKind::Unsupported, "the host has no such controller");
                let path = PathBuf::from(setting.controller);
                return Err(Error::Cgroup { operation: "limit", path, source });
            };
            let path = hierarchy.mount.join(cgroup).join(&*setting.file);
            match fs::write(&path, &setting.value) {
                Ok(()) => {}
                Err(_) if setting.optional => {}
                Err(source) => return Err(Error::Cgroup { operation: "set the limit", path, source }),
            }
        }
        Ok(())
    }

    /// Changes the limits of what runs. Memory below what is in use is refused: one version of the kernel would kill for it.
    pub(crate) fn change(&self, cgroup: &Path, resources: &Resources) -> Result<(), Error> {
        let mut resources = resources.clone();
        resources.cpu_quota = resources.cpu_quota.or(Some(-1));
        if let Some(limit) = resources.memory_limit {
            let used = self.usage(cgroup).unwrap_or_default().working_set();
            if i64::try_from(used).is_ok_and(|used| used > limit) {
                return Err(Error::InUse { path: cgroup.to_owned(), limit, used });
            }
            self.raise_swap(cgroup, limit);
        }
        self.limit(cgroup, &resources)
    }

    /// On v1 a limit of memory cannot be above that of memory with swap, which therefore rises first.
    fn raise_swap(&self, cgroup: &Path, limit: i64) {
        let v1 = self.controlling("memory").filter(|hierarchy| hierarchy.version == Version::V1);
        let Some(hierarchy) = v1 else { return };
        let file = hierarchy.mount.join(cgroup).join("memory.memsw.limit_in_bytes");
        let now = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i64>().ok());
        if now.is_some_and(|now| now < limit) {
            // The limit itself tells when this fails.
            let _ = fs::write(&file, limit.to_string());
        }
    }

    /// The hierarchy that has the controller: on a hybrid host v2 may have those that no v1 hierarchy has.
    fn controlling(&self, controller: &str) -> Option<&Hierarchy> {
        let v1 =
            self.hierarchies.iter().find(|h| h.version == Version::V1 && h.controllers.iter().any(|c| c == controller));
        v1.or_else(|| {
            let mut v2 = self.hierarchies.iter().filter(|h| h.version == Version::V2);
            v2.find(|h| self.is_v2() || h.offers(controller))
        })
    }

    /// The file whose `oom_kill` line counts the processes the kernel killed here for memory.
    pub(crate) fn oom_counter(&self, cgroup: &Path) -> Option<PathBuf> {
        self.hierarchies.iter().find_map(|h| match h.version {
            Version::V1 if h.controllers.iter().any(|c| c == "memory") => {
                Some(h.mount.join(cgroup).join("memory.oom_control"))
            }
            Version::V2 if self.is_v2() => Some(h.mount.join(cgroup).join("memory.events")),
            _ => None,
        })
    }

    /// Kills every process in the cgroup and below and returns when they are dead. No error when it is gone.
    pub(crate) fn kill(&self, cgroup: &Path) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let path = hierarchy.mount.join(cgroup);
            processes::kill_all(&path).map_err(|source| Error::Cgroup { operation: "kill in it", path, source })?;
        }
        Ok(())
    }

    /// Removes the cgroup and those below. No error when it is gone.
    pub(crate) fn remove(&self, cgroup: &Path) -> Result<(), Error> {
        for hierarchy in &self.hierarchies {
            let path = hierarchy.mount.join(cgroup);
            remove_tree(&path).map_err(|source| Error::Cgroup { operation: "remove it", path, source })?;
        }
        Ok(())
    }
}

impl Cgroups {
    /// Removes the cgroup unless something lives in it or below.
    pub(crate) fn remove_if_empty(&self, cgroup: &Path) {
        for hierarchy in &self.hierarchies {
            let _ = fs::remove_dir(hierarchy.mount.join(cgroup));
        }
    }
}

fn remove_tree(cgroup: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cgroup) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How many processes the kernel killed for memory, by a file of [`Cgroups::oom_counter`].
pub(crate) fn oom_kills(counter: &Path) -> u64 {
    let Ok(text) = fs::read_to_string(counter) else { return 0 };
    parse_oom_kills(&text)
}

fn parse_oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oom_counter_of_both_versions_is_read() {
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(parse_oom_kills(""), 0);
        assert_eq!(parse_oom_kills("oom_kill many"), 0);
    }
}
