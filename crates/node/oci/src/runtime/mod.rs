//! The client that the node agent holds: async, one connection per living shim.

mod streams;

use std::path::Path;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{ContainerSpec, ContainerStatus, Error, Event, ExecSpec, RuntimeConfig, SandboxSpec, SandboxStatus};
pub use streams::{Exit, StreamReader, StreamWriter, Streams, Terminal};

/// The container runtime of one data directory. Clones share it.
#[derive(Clone)]
pub struct Runtime {}

impl Runtime {
    /// Opens the runtime's directory and finds its living shims again. Containers that ended while nobody was
    /// connected are reported at once; sandboxes that were never finished are removed.
    pub async fn open(config: RuntimeConfig) -> Result<(Self, UnboundedReceiver<Event>), Error> {
        let _ = config;
        Ok((Self {}, unbounded_channel().1))
    }

    /// Every sandbox with its containers.
    pub async fn list(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(Vec::new())
    }

    pub async fn sandbox(&self, id: &str) -> Result<SandboxStatus, Error> {
        Err(Error::NoSandbox(id.to_owned()))
    }

    pub async fn container(&self, id: &str) -> Result<ContainerStatus, Error> {
        Err(Error::NoContainer(id.to_owned()))
    }

    /// Starts the pod's shim and makes its namespaces. On an error nothing is left behind.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus, Error> {
        Err(Error::NoSandbox(spec.id))
    }

    /// Kills what still runs in the sandbox and returns when it is dead. Stopping twice is no error.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        Err(Error::NoSandbox(id.to_owned()))
    }

    /// Stops the sandbox and removes everything it owns. Removing an unknown sandbox is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        Err(Error::NoSandbox(id.to_owned()))
    }

    /// Records the container; nothing runs yet.
    pub async fn create_container(&self, sandbox: &str, spec: ContainerSpec) -> Result<ContainerStatus, Error> {
        let _ = spec;
        Err(Error::NoSandbox(sandbox.to_owned()))
    }

    /// Returns when the container's command has been executed. When it cannot be, the error says why as a user
    /// should read it and the container is `Exited` with code 128 and reason `StartError`.
    pub async fn start_container(&self, id: &str) -> Result<ContainerStatus, Error> {
        Err(Error::NoContainer(id.to_owned()))
    }

    /// Sends a signal to the container's first process (`SIGKILL` ends all of them). A container that has
    /// ended is no error.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error> {
        let _ = signal;
        Err(Error::NoContainer(id.to_owned()))
    }

    /// Removes a container that does not run, with its writable layer. Its log stays. Removing an unknown
    /// container is no error.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        Err(Error::NoContainer(id.to_owned()))
    }

    /// Opens the log file anew, after a rotation moved it away.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        Err(Error::NoContainer(id.to_owned()))
    }

    /// Runs a further process in a running container.
    pub async fn exec(&self, container: &str, spec: ExecSpec) -> Result<Streams, Error> {
        let _ = spec;
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Joins the streams of the container's first process from now on. `stdin` is there when the container has
    /// one.
    pub async fn attach(&self, container: &str) -> Result<Streams, Error> {
        Err(Error::NoContainer(container.to_owned()))
    }

    /// Kills every shim and container of the data directory and removes their mounts, cgroups and files; works
    /// with no runtime open and after everything was killed. Blocking.
    pub fn destroy_all(root: &Path, cgroup_root: &str) -> Result<(), Error> {
        let _ = (root, cgroup_root);
        Ok(())
    }
}

/// Entry point of the re-executed binary: `main` calls this before anything else and ends with the code it
/// returns, if any.
pub fn reexec() -> Option<i32> {
    None
}
