//! Structural schemas: what a CustomResourceDefinition says about its objects, and what that does to one of them.
//!
//! `Schema::parse` reads a `JSONSchemaProps` document once; after that an object is pruned ([`Schema::prune`]), defaulted
//! ([`Schema::apply_defaults`]) and validated ([`Schema::validate`]) against it, with upstream's words. Whether the schema
//! itself is a good one is the definition's validation, not ours: here an odd schema does the least surprising thing.
//!
//! Pure: no I/O, no kind named. `x-kubernetes-validations` are carried, not evaluated: that is `machinery-cel`.

mod defaults;
mod format;
mod lists;
mod number;
mod parse;
mod prune;
mod publish;
mod schema;
mod validate;

pub use lists::Before;
pub use parse::ParseError;
pub use publish::GroupVersionKind;
pub use schema::{Additional, Checks, ListType, Rule, Schema, Type};

#[cfg(test)]
mod tests;
