//! What sandboxes and their running containers use, read from the kernel when somebody asks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Runtime, blocking};
use crate::cgroup::{Cgroups, Usage};
use crate::{ContainerState, Error};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxUsage {
    pub id: String,
    /// Of the whole pod.
    pub usage: Usage,
    /// Of the containers that run.
    pub containers: Vec<ContainerUsage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    pub id: String,
    /// Its first process, in the node's pid namespace.
    pub pid: i32,
    pub usage: Usage,
    /// Of its writable layer, and of its logs; where it was asked for.
    pub disk: Option<(DiskUsage, DiskUsage)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// As allocated on the disk.
    pub bytes: u64,
    pub inodes: u64,
}

impl Runtime {
    /// Of a cgroup that pods share ([`Self::limit_group`]); `None` while there is no such.
    pub async fn group_usage(&self, group: &str) -> Result<Option<Usage>, Error> {
        self.groups().usage(group).await
    }

    /// Of all sandboxes; one that goes meanwhile is left out. `walks`: of which to count what the containers have written.
    pub async fn usage(&self, walks: impl Fn(&str) -> bool + Send + 'static) -> Result<Vec<SandboxUsage>, Error> {
        let sandboxes: Vec<_> = self.sandboxes().values().cloned().collect();
        blocking(move || {
            let cgroups = Cgroups::discover()?;
            let of = |sandbox: Arc<super::Sandbox>| {
                let pod = sandbox.record.cgroup();
                let status = sandbox.status();
                let containers = status.containers.into_iter().filter_map(|container| {
                    let ContainerState::Running { pid, .. } = container.state else { return None };
                    let usage = cgroups.usage(&pod.join(&container.id))?;
                    let disk = walks(&sandbox.id).then(|| {
                        let layer = walked(&sandbox.directory.container(&container.id).upper());
                        (layer, container.log_path.as_deref().map(logged).unwrap_or_default())
                    });
                    Some(ContainerUsage { id: container.id, pid, usage, disk })
                });
                // Before the whole: no part has used more than that.
                let containers = containers.collect();
                Some(SandboxUsage { id: sandbox.id.clone(), usage: cgroups.usage(&pod)?, containers })
            };
            Ok(sandboxes.into_iter().filter_map(of).collect())
        })
        .await
    }
}

/// Everything below a directory, itself too; symbolic links are not followed.
fn walked(root: &Path) -> DiskUsage {
    let mut usage = DiskUsage::default();
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        // Files come and go while they are counted.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        usage.bytes += metadata.blocks() * 512;
        usage.inodes += 1;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    usage
}

/// The log and what was rotated away from it.
fn logged(log: &Path) -> DiskUsage {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else { return DiskUsage::default() };
    let name = name.to_string_lossy();
    let ours = fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| {
        let file = entry.file_name();
        let rest = file.to_str().and_then(|file| file.strip_prefix(&*name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    ours.map(|entry| walked(&entry.path())).fold(DiskUsage::default(), |sum, one| DiskUsage {
        bytes: sum.bytes + one.bytes,
        inodes: sum.inodes + one.inodes,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path().join("upper");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::write(upper.join("a/b/c"), vec![1; 10_000]).unwrap();
        std::os::unix::fs::symlink("/usr", upper.join("usr")).unwrap();
        let usage = walked(&upper);
        assert_eq!(usage.inodes, 5);
        assert!((10_000..1 << 20).contains(&usage.bytes), "{usage:?}");
        assert_eq!(walked(&dir.path().join("nothing")), DiskUsage::default());
    }

    #[test]
    fn a_log_is_its_file_and_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["0.log", "0.log.1", "10.log", "0.logs"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(logged(&dir.path().join("0.log")).inodes, 2);
    }
}
