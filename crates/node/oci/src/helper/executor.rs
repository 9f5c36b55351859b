//! The last steps inside the container: find the command and become it. Failures are reported in the words that
//! Kubernetes users know from runc.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execv};

use super::confinement::Confinement;
use super::report::Reporter;
use crate::kernel;

#[derive(Clone)]
pub(super) struct Command {
    pub(super) reporter: Reporter,
    /// What libcontainer leaves to be done to a further process.
    pub(super) confinement: Option<Confinement>,
}

impl Executor for Command {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find(spec).map(drop).map_err(|message| {
            self.reporter.failed(&message, true);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let confined = self.confinement.as_ref().map_or(Ok(()), Confinement::enter);
        let message = confined.map_or_else(|message| message, |()| become_command(spec));
        self.reporter.failed(&message, true);
        Err(ExecutorError::Other(message))
    }
}

/// Returns only when it has failed.
fn become_command(spec: &Spec) -> String {
    let path = match find(spec) {
        Ok(path) => path,
        Err(message) => return message,
    };
    let arguments: Result<Vec<CString>, _> = arguments(spec).iter().map(|a| CString::new(a.as_str())).collect();
    let (Ok(arguments), Ok(c_path)) = (arguments, CString::new(path.as_os_str().as_encoded_bytes())) else {
        return "exec: an argument contains a zero byte".to_owned();
    };
    kernel::reset_signals();
    let errno = execv(&c_path, &arguments).err().unwrap_or(Errno::UnknownErrno);
    format!("exec {}: {}", path.display(), text(errno))
}

fn arguments(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|p| p.args().as_deref()).unwrap_or_default()
}

fn find(spec: &Spec) -> Result<PathBuf, String> {
    let name = arguments(spec).first().ok_or("exec: no command specified")?;
    let environment = spec.process().as_ref().and_then(|p| p.env().as_deref()).unwrap_or_default();
    let search = environment.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    look_up(name, search, &check)
}

/// The file that a command's name means. A name with a slash is a path already.
fn look_up(name: &str, search: &str, check: &dyn Fn(&Path) -> Result<(), Errno>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match check(&path) {
            Ok(()) => Ok(path),
            Err(errno @ (Errno::ENOENT | Errno::ENOTDIR)) => {
                Err(format!("exec: {name:?}: stat {name}: {}", text(errno)))
            }
            Err(errno) => Err(format!("exec: {name:?}: {}", text(errno))),
        };
    }
    let mut denied = false;
    for directory in search.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let path = Path::new(directory).join(name);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied { Err(format!("exec: {name:?}: permission denied")) } else { Err(not_found(name)) }
}

fn not_found(name: &str) -> String {
    format!("exec: {name:?}: executable file not found in $PATH")
}

fn check(path: &Path) -> Result<(), Errno> {
    let metadata = path.metadata().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

/// The kernel's words for the errors that users meet; nix would capitalise them.
fn text(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no such file or directory".to_owned(),
        Errno::EACCES => "permission denied".to_owned(),
        Errno::EISDIR => "is a directory".to_owned(),
        Errno::ENOTDIR => "not a directory".to_owned(),
        Errno::ENOEXEC => "exec format error".to_owned(),
        other => other.desc().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(name: &str) -> Result<PathBuf, String> {
        look_up(name, "/bin:/sbin", &|path| match path.to_str() {
            Some("/sbin/init" | "/bin/sh" | "./run") => Ok(()),
            Some("/bin/data") => Err(Errno::EACCES),
            Some("/bin") => Err(Errno::EISDIR),
            _ => Err(Errno::ENOENT),
        })
    }

    #[test]
    fn commands_are_found_in_order() {
        assert_eq!(look("init"), Ok("/sbin/init".into()));
        assert_eq!(look("./run"), Ok("./run".into()));
    }

    #[test]
    fn failures_read_as_users_know_them() {
        assert_eq!(look("nope"), Err("exec: \"nope\": executable file not found in $PATH".to_owned()));
        assert_eq!(look("/nope"), Err("exec: \"/nope\": stat /nope: no such file or directory".to_owned()));
        assert_eq!(look("data"), Err("exec: \"data\": permission denied".to_owned()));
        assert_eq!(look("/bin"), Err("exec: \"/bin\": is a directory".to_owned()));
        assert_eq!(look(""), Err("exec: \"\": executable file not found in $PATH".to_owned()));
    }
}
