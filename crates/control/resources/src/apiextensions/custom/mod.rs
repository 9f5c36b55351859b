//! One kind that a definition makes: its rows in the table of resources, its strategy, its versions.

mod columns;
mod conversion;
mod json_path;
mod row;
mod strategy;
mod table;
mod version;
mod webhook;

pub(super) use conversion::Versions;
pub(super) use strategy::CustomStrategy;
pub(crate) use table::schema as schema_of;
pub(super) use version::{BadDefinition, Version};
pub(super) use webhook::Webhook;
#[cfg(feature = "test-util")]
pub use webhook::conversion_answer;
