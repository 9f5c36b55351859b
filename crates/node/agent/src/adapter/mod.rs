//! The seams joined to our own runtime, image store and pod network: one file each, no logic; and to a foreign runtime.

pub mod cri;
mod dial;
mod images;
mod listening;
mod network;
mod runtime;

pub use images::LocalImages;
pub use network::PodNetwork;
pub use node_oci::seccomp::parse as parse_seccomp;
pub use runtime::OciRuntime;
