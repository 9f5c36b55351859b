//! Container logs: files in CRI's format, read back with the API's options.

mod files;
mod follow;
mod line;
mod options;
mod read;

pub use files::{list, remove, rotate};
pub use follow::Follower;
pub use options::LogOptions;
pub use read::{Reader, tail_text};
