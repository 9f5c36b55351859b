//! What an expression may name.

use std::collections::BTreeMap;

use crate::types::Ty;

/// Variables and their types.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    variables: BTreeMap<String, Ty>,
}

impl Declarations {
    #[must_use]
    pub fn with(mut self, name: &str, ty: Ty) -> Self {
        self.variables.insert(name.to_owned(), ty);
        self
    }

    pub fn get(&self, name: &str) -> Option<&Ty> {
        self.variables.get(name)
    }
}
