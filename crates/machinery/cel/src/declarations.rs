//! What an expression may name, and what it then finds there.

use std::collections::BTreeMap;

use crate::authorization::{Decision, Question};
use crate::eval::{Budget, Result};
use crate::types::Ty;
use crate::value::Val;

/// Variables and their types.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    variables: BTreeMap<String, Ty>,
    makes: bool,
}

impl Declarations {
    #[must_use]
    pub fn with(mut self, name: &str, ty: Ty) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    /// Expressions may make structures (`Object{…}`, `JSONPatch{…}`), as those of mutations do.
    #[must_use]
    pub fn making(mut self) -> Self {
        self.makes = true;
        self
    }

    pub fn get(&self, name: &str) -> Option<&Ty> {
        self.variables.get(name)
    }

    pub(crate) fn makes(&self) -> bool {
        self.makes
    }
}

/// The values while an expression runs.
pub trait Activation {
    fn variable(&self, name: &str) -> Option<Val>;

    /// What `of.name` is, where that is more than a field of a variable: one declared by that name, or a value made
    /// only when it is asked for.
    fn member(&self, _of: &str, _name: &str, _budget: &mut Budget) -> Option<Result> {
        None
    }

    /// None: not known yet. The evaluation ends with the question.
    fn decision(&self, _question: &Question) -> Option<Decision> {
        None
    }
}

impl Activation for BTreeMap<&str, Val> {
    fn variable(&self, name: &str) -> Option<Val> {
        self.get(name).cloned()
    }
}
