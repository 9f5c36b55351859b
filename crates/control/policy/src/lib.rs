//! Who a caller is, what it may do, and the last word on its writes.
//!
//! ```text
//! connection ─ authentication ─▶ UserInfo ─ authorization ─▶ registry ─ admission ─▶ store
//! ```
//! Only the binary depends on this crate. README.md says how the rules fill at boot.

pub mod admission;
pub mod authentication;
pub mod authorization;
mod pod_references;
pub mod rbac;
mod request_header;
pub mod review;
pub mod tokens;

pub use admission::{Lookups, Plugins, plugins};
pub use authentication::{BadAuthority, ClientCertificates};
pub use rbac::{Kinds, Rbac};
pub use request_header::{RequestHeaderOptions, RequestHeaders};
