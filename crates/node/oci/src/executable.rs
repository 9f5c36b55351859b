//! Re-execution of our own binary, protected from the containers it starts.
//!
//! A container's first process is, until it executes its command, our binary inside the container; whoever is
//! root there can reach it through `/proc/<pid>/exe`. The shim and its helpers therefore run from a private
//! read-only mount of the file: opening it for writing is refused, and all of them share the page cache of the
//! running binary (a sealed memory copy would cost its whole size again).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernel;

/// What the re-executed binary is to be; its `argv[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One per pod: `sampan-shim SANDBOX-DIRECTORY`.
    Shim,
    /// Starts a container: `sampan-oci-init CONTAINER-DIRECTORY FD`.
    Init,
    /// Starts a further process in one: `sampan-oci-exec CONTAINER-DIRECTORY FD`.
    Exec,
    /// The first process of a pod whose containers share theirs: `sampan-pause SANDBOX-DIRECTORY`.
    Pause,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Shim => "sampan-shim",
            Self::Init => "sampan-oci-init",
            Self::Exec => "sampan-oci-exec",
            Self::Pause => "sampan-pause",
        }
    }

    pub(crate) fn from_name(name: &OsStr) -> Option<Self> {
        [Self::Shim, Self::Init, Self::Exec, Self::Pause].into_iter().find(|role| name == role.name())
    }
}

/// A binary as containers may meet it. Keep it until the process has been spawned.
pub(crate) struct Executable(OwnedFd);

impl Executable {
    pub(crate) fn open(binary: &Path) -> io::Result<Self> {
        kernel::read_only_view(binary).map(Self)
    }

    /// A command in the given role, with an empty environment.
    pub(crate) fn command(&self, role: Role) -> Command {
        // The child resolves its own descriptor; it is closed only when the execution has succeeded.
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        command(&path, role)
    }
}

/// A command that re-executes this very process's binary, for processes that were started by [`Executable`].
pub(crate) fn same_binary(role: Role) -> Command {
    command(Path::new("/proc/self/exe"), role)
}

fn command(path: &Path, role: Role) -> Command {
    let mut command = Command::new(path);
    command.arg0(role.name()).env_clear();
    command
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, OpenOptions};

    use super::*;

    #[test]
    fn the_view_cannot_be_opened_for_writing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("binary");
        fs::write(&file, "text").unwrap();
        let view = Executable::open(&file).unwrap();
        let path = format!("/proc/self/fd/{}", view.0.as_raw_fd());
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        let error = OpenOptions::new().write(true).open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        fs::write(&file, "the file itself stays writable").unwrap();
    }

    #[test]
    fn roles_are_found_by_name_only() {
        assert_eq!(Role::from_name(OsStr::new("sampan-shim")), Some(Role::Shim));
        assert_eq!(Role::from_name(OsStr::new("/usr/bin/sampan-shim")), None);
        assert_eq!(Role::from_name(OsStr::new("")), None);
    }
}
