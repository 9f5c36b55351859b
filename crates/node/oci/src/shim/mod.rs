//! One small process per pod that holds what must outlive the node's binary: the pod's namespaces, its
//! containers' standard streams and their exits. Single-threaded and synchronous; it waits in one `poll`.
//! Depends on nothing async, and on libcontainer only through re-executed helpers.

mod attach;
mod client;
mod container;
mod crilog;
mod early;
mod exec;
mod helper;
mod log;
mod output;
mod pause;
mod server;
mod setup;
mod users;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use crate::layout::SandboxDir;
pub(crate) use helper::Report;
pub(crate) use pause::main as pause;
use server::Server;

/// What the shim writes to its standard output once it answers on its socket; anything else is an error text.
pub(crate) const READY: &str = "ready";

/// The shim's whole life; the result is the process's exit code.
pub(crate) fn main(arguments: &[OsString]) -> i32 {
    let [directory] = arguments else { return 64 };
    match setup::prepare(&SandboxDir(PathBuf::from(directory))) {
        Ok(prepared) => {
            // Nobody may be reading any more: a client that died just now finds us again by our socket.
            let _ = writeln!(std::io::stdout(), "{READY}");
            setup::close_standard_streams();
            Server::new(prepared).run();
            0
        }
        Err(error) => {
            let _ = writeln!(std::io::stdout(), "{error}");
            1
        }
    }
}
