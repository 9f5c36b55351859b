//! The watch cache.
pub struct Cache;
pub enum Freshness {}
