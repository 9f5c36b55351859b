//! `runtime.v1`: the Container Runtime Interface, as a node asks it and as a runtime answers it.
//!
//! What Windows alone reads, SELinux, pressure stalls and metrics are left out. A message of one string, number or no field
//! is that string or number or `()`, which encode so.

mod container;
mod image;
mod runtime;
mod sandbox;
mod security;
mod stats;
mod streaming;

pub use container::*;
pub use image::*;
pub use runtime::*;
pub use sandbox::*;
pub use security::*;
pub use stats::*;
pub use streaming::*;

#[cfg(test)]
mod tests;
