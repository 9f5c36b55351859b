//! Expressions about a request: what they see, who answers their questions, and the conditions that webhooks and
//! policies set for being asked at all.
//!
//! ```text
//!  Facts (request, oldObject, namespaceObject) ─┐
//!  Document (object) ─ Document (params) ───────┼─▶ Scope ─▶ evaluate ─▶ value or error
//!  variables, each made when first asked for ───┘     │ ▲
//!                          a check not answered yet ──┘ └── Asking: the authorizers; then evaluated again
//! ```
//! An evaluation waits for nobody: one that needs an answer ends with the question, and starts over once it is known.
//! How many there can be is bounded by what a check costs.

mod asking;
mod conditions;
mod facts;
mod scope;

pub(crate) use asking::Asking;
pub(crate) use conditions::Conditions;
pub(crate) use facts::{Document, Facts};
pub(crate) use scope::{Compiled, Scope, Stop};

#[cfg(test)]
pub(crate) mod testing;
