//! Who may do what: the plug-ins of the request chain, in order.
//!
//! ```text
//! authenticate (client certificate) ─▶ authorize (masters, nodes, built-in identities) ─▶ admit (mutate, then validate)
//! ```
//! Depends on `machinery` for the traits and on `base`; reads other kinds only through `dyn Resource`.

mod admission;
mod authentication;
mod authorization;
mod rules;

pub use admission::{Lookup, plugins};
pub use authentication::ClientCertificates;
pub use authorization::{BuiltIn, Masters, Nodes};
