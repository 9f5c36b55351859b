//! Why the agent cannot run.

use std::io;
use std::net::SocketAddr;

use crate::seams::SeamError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listen on {address} for the node API")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("take over the containers of this node")]
    Adopt(#[from] SeamError),
    #[error("read this machine's {what}")]
    Machine { what: &'static str, source: io::Error },
    #[error("follow the static pods in {path}", path = path.display())]
    StaticPods { path: std::path::PathBuf, source: io::Error },
    #[error("follow the volume drivers in {path}", path = path.display())]
    Drivers { path: std::path::PathBuf, source: io::Error },
    #[error("create {path}", path = path.display())]
    Directory { path: std::path::PathBuf, source: io::Error },
}
