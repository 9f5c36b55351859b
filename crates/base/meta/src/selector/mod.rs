//! Label and field selectors, as query strings and as `metav1.LabelSelector`.

mod field;
mod label;
mod lexer;
mod parse;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

/// What is wrong with a selector; the text is upstream's, fit for a BadRequest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

#[cfg(test)]
mod tests;
