//! What Go's API types say beyond a field's name, and what follows from it for an object's JSON.
//!
//! `api` fills the table from generated data; each resource definition carries its root type, so
//! `machinery` decodes, patches, publishes and normalises objects without naming a kind.
//! A table is a flat slice of types that refer to each other by index: static, without pointers to chase,
//! and the same shape that a CustomResourceDefinition's schema is lowered to.

mod cursor;
mod decode;
mod key;
mod normalise;
mod scalar;
mod table;
mod visit;

pub use decode::{DecodeError, Decoded, conform, decode, strict_message};
pub use normalise::normalise;
pub use table::{Field, ListType, MapType, PatchStrategy, Rare, SchemaRef, Shape, Table, Type, TypeId};
