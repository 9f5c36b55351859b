//! The registry over a real (in-memory) store, with a kind made for the purpose.
#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod create;
mod delete;
mod patch;
mod read;
mod schema;
mod update;
mod watch;
mod widget;
