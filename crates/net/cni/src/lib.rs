//! Networks that CNI plug-ins make, in place of the built-in pod network: programs of somebody else's, configured by a
//! file of somebody else's. README.md says what is asked of them and when.
//!
//! `version`, `list`, `answer` and `capabilities` are pure: what is read of configurations and of answers, both of which
//! are outside data. `program` runs one plug-in, `chain` all of a network; `record` remembers what was connected how;
//! `folder` follows the configurations. The binary depends on this crate.

mod answer;
mod capabilities;
mod chain;
mod folder;
mod list;
mod network;
mod program;
mod record;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod version;

pub use answer::{AnswerError, addresses};
pub use capabilities::{CapabilityError, Dns};
pub use chain::ChainError;
pub use folder::{FolderError, Found};
pub use list::{ListError, NetworkList, Plugin};
pub use network::{Cni, CniConfig, Error};
pub use program::CallError;
pub use version::Version;

/// The pod's end, by Kubernetes' custom.
pub const INTERFACE: &str = "eth0";
