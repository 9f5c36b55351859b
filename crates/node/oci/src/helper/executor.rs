//! The last steps inside the container: find the command and become it. Failures are reported in the words that
//! Kubernetes users know from runc.

use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, execve};

use super::report::Reporter;
use crate::kernel;

#[derive(Clone)]
pub(super) struct Command {
    pub(super) reporter: Reporter,
}

impl Executor for Command {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        process(spec).and_then(find).map(drop).map_err(|message| {
            self.reporter.failed(&message, true);
            ExecutorValidationError::ArgValidationError(message)
        })
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let message = process(spec).map_or_else(|message| message, become_command);
        self.reporter.failed(&message, true);
        Err(ExecutorError::Other(message))
    }
}

/// Returns only when it has failed.
pub(super) fn become_command(process: &Process) -> String {
    let path = match find(process) {
        Ok(path) => path,
        Err(message) => return message,
    };
    let strings = |texts: Vec<&str>| texts.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = strings(arguments(process).iter().map(String::as_str).collect());
    let environment = strings(last_of_each(environment(process)));
    let (Ok(arguments), Ok(environment), Ok(c_path)) =
        (arguments, environment, CString::new(path.as_os_str().as_encoded_bytes()))
    else {
        return "exec: an argument contains a zero byte".to_owned();
    };
    kernel::reset_signals();
    let errno = execve(&c_path, &arguments, &environment).err().unwrap_or(Errno::UnknownErrno);
    format!("exec {}: {}", path.display(), text(errno))
}

fn process(spec: &Spec) -> Result<&Process, String> {
    spec.process().as_ref().ok_or_else(|| "exec: no command specified".to_owned())
}

fn arguments(process: &Process) -> &[String] {
    process.args().as_deref().unwrap_or_default()
}

fn environment(process: &Process) -> &[String] {
    process.env().as_deref().unwrap_or_default()
}

/// Of variables that are given more than once the last counts.
fn last_of_each(environment: &[String]) -> Vec<&str> {
    let name = |entry: &String| entry.split('=').next().map(ToOwned::to_owned);
    let last =
        |(index, entry): &(usize, &String)| environment[index + 1..].iter().all(|later| name(later) != name(entry));
    environment.iter().enumerate().filter(last).map(|(_, entry)| entry.as_str()).collect()
}

fn find(process: &Process) -> Result<PathBuf, String> {
    let name = arguments(process).first().ok_or("exec: no command specified")?;
    let search = environment(process).iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
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
    fn of_a_variable_that_is_given_again_the_last_counts() {
        let given = ["A=1", "B=2=3", "AB=4", "A=5"].map(str::to_owned);
        assert_eq!(last_of_each(&given), ["B=2=3", "AB=4", "A=5"]);
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
