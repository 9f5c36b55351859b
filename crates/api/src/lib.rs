//! Typed Kubernetes objects: defaulting, validation, and the facts of their schemas.
//!
//! Pure, above `base` and below the components; no `machinery` crate may depend on it.

pub mod schema;
