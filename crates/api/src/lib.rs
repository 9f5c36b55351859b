//! Typed Kubernetes objects: defaulting, validation, and the facts of their schemas.
//!
//! Pure, above `base` and below the components; no `machinery` crate may depend on it.

pub mod bootstrap_token;
pub mod conversion;
pub mod cron;
pub mod csi;
pub mod decoders;
pub mod defaults;
pub mod flowcontrol;
pub mod node_selector;
pub mod owner;
pub mod pod;
pub mod quota;
pub mod rbac;
pub mod schema;
pub mod service;
pub mod service_env;
pub mod signing_request;
pub mod sysctl;
pub mod taint;
pub mod template_hash;
pub mod validation;
pub mod volume;
