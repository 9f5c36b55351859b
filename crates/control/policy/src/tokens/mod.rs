//! Service-account tokens: signed here, proved here. Beside them, the tokens of who joins the cluster (`bootstrap.rs`).
//!
//! ```text
//! serviceaccounts/token ─ request.rs ─▶ keys.rs signs claims.rs ─▶ pod (projected volume), kubectl create token
//! Authorization: Bearer ─ authenticator.rs ─▶ signature (once, then cached) ─▶ time, audience, bound objects (each time)
//! ```

mod authenticator;
mod bootstrap;
mod claims;
mod keys;
mod node;
mod request;
mod secrets;
#[cfg(test)]
pub(crate) mod tests;

pub use authenticator::ServiceAccountTokens;
pub use bootstrap::BootstrapTokens;
pub use keys::{KeyError, Keys};
pub use request::TokenRequests;
pub use secrets::follow as follow_secrets;
