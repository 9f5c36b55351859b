//! Logins for image registries: those of a pod's Secrets, and those that an operator's programs give.
//!
//! ```text
//!  imagePullSecrets ──▶ keyring ─┐
//!                                ├─▶ logins for this image, tried in this order
//!  providers (programs) ─▶ keyring ┘
//! ```

mod keyring;
mod providers;

pub(crate) use keyring::Keyring;
pub use providers::{Providers, ProvidersError};
