//! The embedded container runtime: pod sandboxes and their containers, run by `libcontainer` under one small
//! shim process per pod that outlives this binary. The node agent is the only user; see README.md beside this
//! file for the processes, the protocol between them and who owns which file.
//!
//! `unsafe` is allowed here: namespaces, file-descriptor passing and re-execution need system calls that no
//! safe crate wraps. Every block says why it is sound.
#![allow(unsafe_code)]

mod cgroup;
mod error;
mod executable;
mod helper;
mod kernel;
mod layout;
mod reexec;
mod runtime;
pub mod seccomp;
mod shim;
mod spec;
mod status;
mod wire;

pub use cgroup::{Usage, page_size};
pub use error::Error;
pub use helper::{MASKED, READ_ONLY};
pub use reexec::reexec;
pub use runtime::{
    ContainerUsage, DiskUsage, Exit, Groups, Runtime, SandboxUsage, StreamReader, StreamWriter, Streams, Terminal,
};
pub use spec::{
    Capabilities, ContainerSpec, ExecSpec, IdRange, LogLimit, Mount, Processes, Propagation, Resources, RuntimeConfig,
    SandboxSpec, Seccomp, User,
};
pub use status::{ContainerState, ContainerStatus, Event, ExitStatus, ProcessUser, SandboxState, SandboxStatus};
