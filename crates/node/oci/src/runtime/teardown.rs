//! Removing what a sandbox owns, whoever of its processes is still there. Blocking.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base_sys::mounts;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Error;
use crate::cgroup::Cgroups;
use crate::executable::Role;
use crate::kernel;
use crate::layout::{self, ContainerDir, SandboxDir, SandboxRecord};
use crate::status::{ContainerState, ExitStatus};

/// The directories of a sandbox's containers with their ids.
pub(super) fn containers(sandbox: &SandboxDir) -> Result<Vec<(String, ContainerDir)>, Error> {
    let path = sandbox.containers();
    let mut found = Vec::new();
    let entries = match fs::read_dir(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
        other => other.map_err(Error::io("read", &path))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("read", &path))?;
        if let Ok(id) = entry.file_name().into_string() {
            found.push((id, ContainerDir(entry.path())));
        }
    }
    Ok(found)
}

/// After the shim's death: kills its containers and records an end for each that has none.
pub(super) fn write_off(
    directory: &SandboxDir,
    record: &SandboxRecord,
    cgroups: &Cgroups,
) -> Result<Vec<(String, ExitStatus)>, Error> {
    let mut ended = Vec::new();
    for (id, container) in containers(directory)? {
        cgroups.kill(&record.cgroup().join(&id))?;
        let started_at = match layout::load(&container.state()) {
            Ok(ContainerState::Exited(_)) => continue,
            Ok(ContainerState::Running { started_at, .. }) => Some(started_at),
            Ok(ContainerState::Created) | Err(_) => None,
        };
        let status = ExitStatus {
            exit_code: 137,
            signal: None,
            oom_killed: false,
            started_at,
            finished_at: Timestamp::now(),
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("the container's shim was lost before its exit was seen".to_owned()),
        };
        let state = ContainerState::Exited(status.clone());
        layout::save(&container.state(), &state).map_err(Error::io("write", container.state()))?;
        ended.push((id, status));
    }
    Ok(ended)
}

pub(super) fn remove_container(
    directory: &ContainerDir,
    record: &SandboxRecord,
    id: &str,
    cgroups: &Cgroups,
) -> Result<(), Error> {
    let group = record.cgroup().join(id);
    cgroups.kill(&group)?;
    cgroups.remove(&group)?;
    remove_tree(&directory.0)
}

/// The shim must be dead or about to end.
pub(super) fn remove_sandbox(
    directory: &SandboxDir,
    record: Option<&SandboxRecord>,
    cgroups: &Cgroups,
) -> Result<(), Error> {
    if let Some(record) = record {
        for (id, container) in containers(directory)? {
            remove_container(&container, record, &id, cgroups)?;
        }
        // Another attempt at the same pod may live in it.
        cgroups.remove_if_empty(&record.cgroup());
    }
    for mounted in [directory.netns(), directory.userns(), directory.shm()] {
        unmount(&mounted)?;
    }
    remove_tree(&directory.0)
}

pub(super) fn everything(root: &Path, cgroup_root: &str) -> Result<(), Error> {
    kill_shims(root).map_err(Error::io("kill the shims of", root))?;
    let cgroups = Cgroups::discover()?;
    cgroups.kill(Path::new(cgroup_root))?;
    mounts::unmount_below(root).map_err(Error::io("unmount what is below", root))?;
    cgroups.remove(Path::new(cgroup_root))?;
    remove_tree(root)
}

/// Kills the shims of the sandboxes below a directory (or of that sandbox), wherever they are in their lives,
/// and waits for their deaths.
pub(super) fn kill_shims(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Held before it is looked at, so that the signal cannot reach another process.
        let Ok(process) = kernel::pidfd(pid) else { continue };
        let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if is_shim_of(&command_line, directory) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            while poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) == Err(Errno::EINTR) {
            }
        }
    }
    Ok(())
}

fn is_shim_of(command_line: &[u8], directory: &Path) -> bool {
    let mut arguments = command_line.split(|b| *b == 0);
    let role = arguments.next().is_some_and(|name| name == Role::Shim.name().as_bytes());
    let below = |argument| Path::new(OsStr::from_bytes(argument)).starts_with(directory);
    role && arguments.next().is_some_and(below)
}

fn unmount(path: &Path) -> Result<(), Error> {
    mounts::unmount(path).map_err(Error::io("unmount", path))
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_the_directory_are_meant() {
        assert!(is_shim_of(b"sampan-shim\0/d/x\0", Path::new("/d")));
        assert!(!is_shim_of(b"sampan-shim\0/data/x\0", Path::new("/d")));
        assert!(!is_shim_of(b"cat\0/d/x\0", Path::new("/d")));
        assert!(!is_shim_of(b"", Path::new("/d")));
    }
}
