//! Who a caller is, what it may do, and the last word on its writes.
//!
//! ```text
//! connection ─ authentication ─▶ UserInfo ─ authorization ─▶ registry ─ admission ─▶ store
//! ```
//! Until roles are objects of the API, the rules of the cluster's own parts are a table here; see
//! [`authorization::builtin`]. Only the binary depends on this crate.

pub mod admission;
pub mod authentication;
pub mod authorization;

pub use admission::{Plugins, plugins};
pub use authentication::ClientCertificates;
pub use authorization::authorizers;
