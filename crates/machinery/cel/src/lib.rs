//! The Common Expression Language as Kubernetes speaks it: compiled against declared types, bounded beforehand and while
//! it runs, with Kubernetes' libraries.
//!
//! [`Program::compile`] is what an expression costs once, [`Program::evaluate`] what it costs each time. [`rules`] runs
//! the `x-kubernetes-validations` of a structural schema over an object. Pure: no I/O, no kind named.

pub mod admission;
mod ast;
mod authorization;
mod check;
mod declarations;
mod escape;
mod estimate;
mod eval;
mod functions;
mod json;
mod made;
mod program;
pub mod rules;
mod schema;
mod signatures;
mod table;
mod types;
mod value;

pub use authorization::{Action, Authorization, Decision, Question, ResourceCheck, ServiceAccount};
pub use declarations::{Activation, Declarations};
pub use eval::{Budget, EvalError};
pub use json::{NotJson, to_json};
pub use made::{Made, misnamed};
pub use program::{CompileError, Program};
pub use schema::{declare, to_value, untyped};
pub use table::declare_built_in;
pub use types::{Kind, Object, Ty};
pub use value::{Key, Val};

/// What one expression may cost while it runs.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one object may cost together while they run.
pub const PER_OBJECT_LIMIT: u64 = 10_000_000;
/// What one rule may be estimated to cost at most.
pub const ESTIMATE_LIMIT: u64 = 10_000_000;
/// What all rules of a definition may be estimated to cost together.
pub const ESTIMATE_TOTAL_LIMIT: u64 = 100_000_000;

#[cfg(test)]
mod tests;
