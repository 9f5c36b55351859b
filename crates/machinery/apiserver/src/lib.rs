//! The HTTP side of the API: who may ask what, in which form it is answered, and what there is to ask for.
//!
//! Serves any set of `dyn` [`Resource`](machinery_registry::Resource); names no kind. Depends on `registry`,
//! `storage` and `base`; `control/policy` implements [`Authenticator`] and [`Authorizer`], the binary wires it up.
//! README.md has the request's path in one diagram.

pub mod audit;
mod authentication;
mod authorization;
mod body;
mod chain;
mod definitions;
mod discovery;
mod dynamic;
mod flow;
mod forms;
mod health;
mod identifier;
mod impersonation;
mod in_process;
mod limits;
mod metrics;
mod negotiate;
mod nonresource;
mod openapi;
mod options;
mod path;
pub mod protobuf;
mod query;
mod respond;
mod routes;
mod serve;
mod served;
mod server;
#[cfg(test)]
mod tests;
mod unread;
mod verbs;
mod version;
mod watch;

pub use authentication::{Authenticator, Identity};
pub use authorization::{Action, Attributes, Authorizer, Decision};
pub use dynamic::{Delegate, Delegated};
pub use health::HealthCheck;
pub use in_process::InProcess;
pub use limits::Limits;
pub use metrics::Register;
pub use serve::tls_config;
pub use server::{ApiServer, Config};
pub use version::VersionInfo;
