//! The errors of the client.

use std::io;
use std::path::PathBuf;

/// Why an operation on a sandbox or container failed. The causes that libcontainer gives cross a process
/// boundary and arrive as text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox {0} does not exist")]
    NoSandbox(String),
    #[error("container {0} does not exist")]
    NoContainer(String),
    #[error("{what} {id} already exists")]
    Exists { what: &'static str, id: String },
    #[error("{what} {id:?} is not a valid id")]
    InvalidId { what: &'static str, id: String },
    #[error("container {container} is {state}, {operation} needs it to be {needed}")]
    WrongState { operation: &'static str, container: String, state: &'static str, needed: &'static str },
    #[error("cannot {operation} {path}", path = path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("sandbox {sandbox}: the shim did not start: {message}")]
    ShimStart { sandbox: String, message: String },
    #[error("sandbox {sandbox}: the shim is gone")]
    ShimGone { sandbox: String },
    #[error("sandbox {sandbox}: the shim speaks protocol {theirs}, this binary {ours}")]
    ProtocolVersion { sandbox: String, theirs: u32, ours: u32 },
    /// `message` is what a user should read: `exec: "foo": executable file not found in $PATH`.
    #[error("cannot {operation} container {container}: {message}")]
    Container { operation: &'static str, container: String, message: String },
    #[error("sandbox {sandbox}: {message}")]
    Sandbox { sandbox: String, message: String },
    #[error("{path} cannot be parsed", path = path.display())]
    State { path: PathBuf, source: serde_json::Error },
    #[error("cgroup {path}: cannot {operation}", path = path.display())]
    Cgroup { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cgroup {path} uses {used} bytes of memory and cannot be limited to {limit}", path = path.display())]
    InUse { path: PathBuf, limit: i64, used: u64 },
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }
}

/// An error with all its causes, for where only text can pass. Causes that repeat what was said are left out:
/// some libraries print their source and carry it as well.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let message = e.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = e.source();
    }
    text
}
