//! The runtime against the real kernel; needs root and Debian's busybox-static.
#![allow(clippy::unwrap_used)]

mod containers;
mod exec;
mod isolation;
mod life;
mod support;
mod users;
