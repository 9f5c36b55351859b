//! Role-based access: who may do what, as Roles and bindings in the API say it.
//!
//! [`Rbac`] answers from an index in memory that follows the four kinds; README.md tells how it fills at boot.

mod aggregate;
mod authorizer;
mod bootstrap;
mod cover;
mod escalation;
mod follow;
mod index;
mod matching;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use bootstrap::Kind;
pub(crate) use escalation::Escalation;
pub use follow::{Kinds, Loaded};
use index::Index;

/// The rules in force. Shared by the authorizer, the escalation check and the access reviews.
#[derive(Debug, Default)]
pub struct Rbac(RwLock<Index>);

impl Rbac {
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
