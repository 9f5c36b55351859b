//! Where objects live: a trait for revisioned keys, the embedded engine behind it, and the watch cache in front of it.
//!
//! ```text
//! registry ──write──▶ Storage (SQLite: one writer thread, group commit, fsync, then answer)
//!    ▲                   │ events in revision order
//!    └──get/list/watch── Cache (objects as canonical JSON bytes, one per resource prefix)
//! ```
//! Knows bytes, keys, labels and fields; names no kind. Depends on `base` only.

pub mod cache;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod embedded;
pub mod object;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

pub use cache::{At, Cache, Event, EventKind, Extract, Freshness, Page, Query, Start, Watcher};
pub use object::{Malformed, Meta, Object};

/// A point in the store's history. Grows by one with every write to any key; an empty store is at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is not in the state the write expected.
    #[error("key {key} is at {actual:?}, the write expected {expected:?}")]
    Conflict { key: String, expected: Expect, actual: Option<Revision> },
    /// The revision asked for has been compacted away.
    #[error("revision {asked} is compacted, the oldest kept is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    /// A revision that this store has not reached.
    #[error("revision {asked} is in the future, the newest is {newest}")]
    Future { asked: Revision, newest: Revision },
    /// The disk is full: nothing was written, reads go on.
    #[error("no space left for {operation}")]
    Full { operation: &'static str },
    #[error("{operation} failed in the storage engine")]
    Engine {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store is shutting down.
    #[error("storage is closed")]
    Closed,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One key's stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    pub created: Revision,
    pub modified: Revision,
}

/// What a write demands of the key's present state (compare-and-swap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    At(Revision),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Bytes),
    /// The event and the history keep `last`, the object as it was deleted.
    Delete {
        last: Bytes,
    },
}

/// One committed write, in revision order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Arc<str>,
    pub revision: Revision,
    pub kind: ChangeKind,
    /// Owns no more memory than it needs: it stays in caches.
    pub value: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Created,
    Updated,
    /// `value` is the object as it was deleted.
    Deleted,
}

/// What a watch yields: the changes up to a revision, none when it only reports progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// Every change under the watched prefix up to this revision has been yielded.
    pub revision: Revision,
}

/// The newest state of a store, as seen by a watch of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The newest committed revision: the linearisation point of a read that asks for the latest.
    pub revision: Revision,
    /// No key under the prefix changed after this one and up to `revision`; every watch of exactly that prefix
    /// which is open now reaches it (yields a batch of this revision or a later one) without another write.
    pub changed: Revision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In key order.
    pub entries: Vec<Entry>,
    /// The revision the listing shows.
    pub revision: Revision,
    /// Whether `limit` cut it.
    pub more: bool,
}

/// Revisioned keys with compare-and-swap; every back end passes `conformance::suite`.
#[async_trait::async_trait]
pub trait Storage: Send + Sync + 'static {
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Keys that start with `prefix`, after `start_after` where given, at most `limit` (0: all), as they
    /// were at revision `at` (`None`: now).
    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listing>;

    /// Durable once it returns. Writes to one store are totally ordered.
    async fn write(&self, key: &str, expect: Expect, op: Op) -> Result<Revision>;

    /// Every change under `prefix` with a revision greater than `after`, in order, without gaps;
    /// ends with [`Error::Compacted`] when the watcher has fallen behind what is kept.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<BoxStream<'static, Result<Batch>>>;

    async fn latest(&self, prefix: &str) -> Result<Latest>;

    /// The newest committed revision.
    async fn revision(&self) -> Result<Revision> {
        Ok(self.latest("").await?.revision)
    }

    /// Forgets history before `before`; current values stay.
    async fn compact(&self, before: Revision) -> Result<()>;
}
