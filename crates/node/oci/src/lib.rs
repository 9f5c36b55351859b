//! The embedded container runtime: pod sandboxes and their containers, run by `libcontainer` under one small
//! shim process per pod that outlives this binary. The node agent is the only user; see README.md beside this
//! file for the processes, the protocol between them and who owns which file.
//!
//! `unsafe` is allowed here: namespaces, file-descriptor passing and re-execution need system calls that no
//! safe crate wraps. Every block says why it is sound.
#![allow(unsafe_code)]

mod error;
mod kernel;
mod runtime;
mod spec;
mod status;

pub use error::Error;
pub use runtime::{Exit, Runtime, StreamReader, StreamWriter, Streams, Terminal, reexec};
pub use spec::{Capabilities, ContainerSpec, ExecSpec, Mount, Resources, RuntimeConfig, SandboxSpec, User};
pub use status::{ContainerState, ContainerStatus, Event, ExitStatus, SandboxState, SandboxStatus};
