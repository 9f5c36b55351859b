//! Whatever is wrong with what it is given: a clear error that names the field or the cause, nothing changed, and the
//! server goes on.

mod access;
mod bodies;
mod host;
mod manifests;
mod pods;
mod requests;

use tests::in_order;
