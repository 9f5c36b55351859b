//! `apiregistration.k8s.io/v1`, and the servers that its objects name.
//!
//! ```text
//!  request /apis/GROUP/VERSION ─▶ ApiServer ─▶ Remote (remote.rs): who asks in headers (front_proxy.rs) ─▶ their server
//!                                    ▲
//!  APIServices ─▶ aggregation.rs ────┘ routes, discovery (discovered.rs)
//!      ▲              └─▶ status: availability.rs
//!      └─ managed.rs: those of the groups that definitions make
//! ```

mod aggregation;
pub(crate) mod api_service;
mod availability;
mod discovered;
mod front_proxy;
mod managed;
pub(crate) mod metrics;
pub(crate) mod priorities;
mod remote;

pub use aggregation::Aggregation;
pub use api_service::ApiServiceStrategy;
pub(crate) use managed::MANAGED;
pub use managed::{Managed, Versions};
