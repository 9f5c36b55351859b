//! Field ownership: `metadata.managedFields` on every write, and server-side apply. Pure, without I/O.
//!
//! Follows upstream's structured-merge-diff and its field manager. See README.md for the algebra.

mod apply;
mod check;
mod compare;
mod conflict;
mod created;
mod element;
mod grown;
mod last_applied;
mod ledger;
mod merge;
mod overlay;
mod owned;
mod place;
mod prune;
mod set;
mod splice;
mod strip;
mod text;
mod update;
mod versions;

#[cfg(test)]
mod tests;

use base_meta::{Reason, Status};

pub use apply::{Applied, applied};
pub use conflict::Conflict;
pub use created::created;
pub use element::Element;
pub use grown::Grown;
pub use ledger::{Entry, Ledger, Operation, Writer};
pub use overlay::overlay;
pub use place::{Node, NodeKind, Place};
pub use set::Set;
pub use splice::{cut, encode, splice};
pub use update::{Write, updated};
pub use versions::{OneVersion, Versions};

/// Why a write's ownership cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} fields belong to others", .0.len())]
    Conflicts(Vec<Conflict>),
    /// The configuration does not follow the schema; upstream's words.
    #[error("{0}")]
    Config(String),
    #[error("convert the object: {0}")]
    Convert(String),
    #[error("version {0:?} is not served")]
    Unserved(String),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// `subject`: the object as upstream's messages name it, `default/web; apps/v1, Kind=Deployment`.
    pub fn status(&self, subject: &str) -> Status {
        match self {
            Self::Conflicts(conflicts) => conflict::status(conflicts),
            Self::Config(problem) => {
                Status::new(Reason::Unknown, format!("failed to create typed patch object ({subject}): {problem}"))
            }
            other => Status::internal(other),
        }
    }
}
