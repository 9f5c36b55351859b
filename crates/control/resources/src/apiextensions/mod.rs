//! `apiextensions.k8s.io/v1`, and the kinds that its definitions make.
//!
//! ```text
//!  CustomResourceDefinition ──▶ registry (definition/) ── events ──▶ serve.rs: one task
//!                                                                      │ plan.rs: names, conditions (pure)
//!                                                                      ▼
//!                        Registry<CustomStrategy> per definition, Views per version (custom/) ──▶ the API server
//! ```
//! A definition is served before its status says so. Its deletion deletes its objects first (`cleanup.rs`).

mod cleanup;
mod custom;
pub(crate) mod definition;
mod plan;
mod serve;

#[cfg(feature = "test-util")]
pub use custom::conversion_answer;
pub(crate) use custom::schema_of;
pub use definition::CustomResourceDefinitionStrategy;
pub use serve::Definitions;
