//! Servers that a Service or a URL names: webhooks, aggregated API servers. HTTP/1.1 over TLS, with connections kept for
//! the next request.
//!
//! ```text
//! ClientConfig ─▶ Dialer::server ─▶ Server: where, whom to believe, idle connections
//!                                      │ call: one body there, one back, within a time and a size
//!                                      │ send: a stream there, a stream back, an upgrade joined
//!                                      ▼
//!                              idle one, else Resolver ▶ TCP ▶ TLS
//! ```
//! A [`Server`] is made when its configuration changes, and kept: its idle connections are its own. Which address a Service
//! has, a [`Resolver`] says, at each new connection. Errors read as Go's do, because users know those.

mod config;
mod error;
mod pool;
mod server;
pub mod tls;
mod upgrade;

pub use config::{ClientConfig, ServiceReference};
pub use error::Error;
pub use server::{Dialer, Resolver, Server};
pub use upgrade::{answer, join, wanted as upgrade_wanted};

/// Bodies inside the server; streams are cancelled by being dropped.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Box<dyn std::error::Error + Send + Sync>>;

#[cfg(test)]
mod tests;
