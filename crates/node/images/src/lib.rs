//! Images on one node: pulled from registries or imported from archives, verified, unpacked to overlay layers, listed
//! and removed. The node agent and `sampan image` depend on it; it knows neither pods nor the runtime.
//!
//! The store's directory is shared between processes: see `store.rs` for what guards it, and README.md for the path of
//! an image from the registry to a directory.

mod archive;
mod disk;
mod error;
mod image;
mod index;
mod name;
mod pull;
mod registries;
mod store;
mod unpack;

pub use error::{Cause, ImportError, PullError, StoreError};
pub use image::{Image, ImageConfig, Origin};
pub use name::{InvalidName, Name};
pub use pull::{Progress, silent};
pub use registries::{Auth, Registries, RegistriesError};
pub use store::ImageStore;
pub use unpack::LayerError;
#[cfg(feature = "test-util")]
pub use unpack::unpack_into;
