//! What every plane agrees on about objects: identities, metadata, selectors, quantities, names,
//! `Status` errors, decoding, and the types of the schema table.
//!
//! Pure: no I/O, no async, no kind named. Every crate may depend on it; it depends on none of ours.

mod decode;
pub mod field;
pub mod gvk;
pub mod names;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;

pub use decode::{decode, decode_value};
pub use gvk::{GroupVersion, Gvk, Gvr};
pub use status::{Reason, Status};
