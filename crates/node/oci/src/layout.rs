//! Which file of a sandbox is where. One directory per sandbox holds everything but the container logs, so
//! removing a sandbox is removing its directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerSpec, SandboxSpec};

/// `<root>/<sandbox id>`
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir(pub(crate) PathBuf);

/// `<root>/<sandbox id>/containers/<container id>`; also libcontainer's bundle.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir(pub(crate) PathBuf);

/// `sandbox.json`: what the shim and the helpers need to know of the pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) spec: SandboxSpec,
    pub(crate) created_at: Timestamp,
    /// The data directory's cgroup.
    pub(crate) cgroup_root: String,
}

impl SandboxRecord {
    pub(crate) fn cgroup(&self) -> PathBuf {
        crate::cgroup::pod(&self.cgroup_root, &self.spec.cgroup_parent, &self.spec.uid)
    }
}

/// `spec.json` of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) spec: ContainerSpec,
    pub(crate) created_at: Timestamp,
}

/// `shim.json`: written last by the shim, so that a sandbox without it was never finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub(crate) pid: u32,
    pub(crate) protocol: u32,
    /// The first process of a pod whose containers share theirs.
    #[serde(default)]
    pub(crate) pause: Option<u32>,
}

impl SandboxDir {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }
    pub(crate) fn shim_record(&self) -> PathBuf {
        self.0.join("shim.json")
    }
    /// Exists once the sandbox was stopped.
    pub(crate) fn stopped(&self) -> PathBuf {
        self.0.join("stopped")
    }
    pub(crate) fn netns(&self) -> PathBuf {
        self.0.join("netns")
    }
    /// Of a pod with its own users.
    pub(crate) fn userns(&self) -> PathBuf {
        self.0.join("userns")
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    pub(crate) fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }
    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }
    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    pub(crate) fn container(&self, id: &str) -> ContainerDir {
        ContainerDir(self.containers().join(id))
    }
}

/// The shim's socket in its sandbox's directory.
pub(crate) const SHIM_SOCKET: &str = "shim.sock";

impl ContainerDir {
    pub(crate) fn sandbox(&self) -> Option<SandboxDir> {
        self.0.parent().and_then(Path::parent).map(|p| SandboxDir(p.to_owned()))
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("spec.json")
    }
    /// The [`crate::ContainerState`], written by the shim at every change.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }
    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }
    /// Its image's layers as its users are to see them, in its helper's mount namespace only.
    pub(crate) fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }
    /// Where the sources of its volumes are, in its helper's mount namespace only.
    pub(crate) fn mounts(&self) -> PathBuf {
        self.0.join("mounts")
    }
    pub(crate) fn oci_config(&self) -> PathBuf {
        self.0.join("config.json")
    }
    /// libcontainer's own state.
    pub(crate) fn oci_state(&self) -> PathBuf {
        self.0.join("oci")
    }
}

/// Ids become path components, cgroup names and libcontainer ids.
pub(crate) fn is_valid_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= 200 && !id.starts_with('.') && id.chars().all(allowed)
}

/// Replaces a file as a whole: a reader sees the old or the new text. Not flushed to the disk: no container
/// survives what would lose it.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)
}

pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_leave_the_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a b", "ü", &"x".repeat(201)] {
            assert!(!is_valid_id(bad), "{bad:?}");
        }
        assert!(is_valid_id("6b1f0c9e-5b1a-4c1e-9d3e-0f6f5f7b2a11_0"));
    }

    #[test]
    fn a_container_finds_its_sandbox() {
        let sandbox = SandboxDir(PathBuf::from("/r/s"));
        assert_eq!(sandbox.container("c").sandbox().map(|s| s.0), Some(sandbox.0));
    }
}
