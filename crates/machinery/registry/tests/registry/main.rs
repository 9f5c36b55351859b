//! The registry over a real (in-memory) store, with a kind made for the purpose.
#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod admission;
mod create;
mod custom;
mod delete;
mod patch;
mod read;
mod schema;
mod update;
mod view;
mod watch;
mod widget;
