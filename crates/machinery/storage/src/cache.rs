//! The watch cache: every object under one prefix, and what lately happened to them.

mod event;
mod feed;
mod log;
mod shared;
mod state;
mod watcher;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

use crate::{Error, Meta, Object, Result, Revision, Storage};
pub use event::{Event, EventKind};
pub use log::Keep;
use shared::Shared;
use watcher::Origin;
pub use watcher::Watcher;

/// Reads from a stored object what selectors need, and says how the object reads: as it is stored, unless the kind has
/// learnt of something since. An error leaves the object out of the cache, logged.
pub type Extract = dyn Fn(&Bytes) -> Result<(Meta, Bytes), Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

/// How new a read's answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As new as every write acknowledged before the read began.
    Latest,
    /// Whatever the cache has.
    Any,
    /// At this revision or later; [`Error::Future`](crate::Error::Future) when the store has not reached it.
    NotOlderThan(Revision),
}

/// The revision a list is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Fresh(Freshness),
    /// Exactly this one: later pages of a list, and `resourceVersionMatch: Exact`.
    Exact(Revision),
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Events after this revision; [`Error::Compacted`](crate::Error::Compacted) when some are no longer kept.
    After(Revision),
    /// The objects as they are ([`Watcher::take_initial`]), then events.
    Initial(Freshness),
    /// Events after every write acknowledged so far.
    Now,
}

#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Full keys: the cache's own prefix, or that and a namespace, ending in a slash.
    pub prefix: &'a str,
    /// The last key of the page before.
    pub start_after: Option<&'a str>,
    /// 0: no limit.
    pub limit: usize,
    pub at: At,
}

#[derive(Debug)]
pub struct Page {
    /// In key order.
    pub items: Vec<Arc<Object>>,
    pub revision: Revision,
    /// Whether `limit` cut the list. The next page starts after the last item's key.
    pub more: bool,
    /// Keys after the cut, whether the filter would take them or not; `None` when not known or not cut.
    pub remaining: Option<u64>,
}

/// One task follows the store until this is dropped; watchers then end with
/// [`Error::Closed`](crate::Error::Closed).
pub struct Cache {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Cache {
    /// Lists `prefix`, then follows it. `prefix` ends in a slash.
    pub async fn start(storage: Arc<dyn Storage>, prefix: impl Into<String>, extract: Arc<Extract>) -> Result<Self> {
        Self::start_with(storage, prefix, extract, Keep::default()).await
    }

    /// As [`Self::start`], keeping another amount of the past.
    pub async fn start_with(
        storage: Arc<dyn Storage>,
        prefix: impl Into<String>,
        extract: Arc<Extract>,
        keep: Keep,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::load(storage, prefix.into(), extract, keep).await?);
        let from = shared.read().revision;
        let changes = shared.storage.watch(&shared.prefix, from).await?;
        let task = tokio::spawn(feed::run(shared.clone(), changes));
        Ok(Self { shared, task })
    }

    pub fn prefix(&self) -> &str {
        &self.shared.prefix
    }

    /// Waits until the cache is as fresh as asked, and says at which revision it is.
    pub async fn wait(&self, freshness: Freshness) -> Result<Revision> {
        self.shared.wait(freshness).await
    }

    pub async fn get(&self, key: &str, freshness: Freshness) -> Result<Option<Arc<Object>>> {
        self.wait(freshness).await?;
        Ok(self.shared.read().get(key).cloned())
    }

    pub async fn list(&self, query: Query<'_>, filter: impl Fn(&Object) -> bool + Send) -> Result<Page> {
        let Query { prefix, start_after, limit, at } = query;
        let revision = match at {
            At::Fresh(freshness) => {
                self.wait(freshness).await?;
                return Ok(self.shared.read().page(prefix, start_after, limit, filter));
            }
            At::Exact(revision) => revision,
        };
        self.wait(Freshness::NotOlderThan(revision)).await?;
        if let Some(page) = self.shared.read().page_at(revision, prefix, start_after, limit, &filter) {
            return Ok(page);
        }
        // The filter must see everything before the limit can cut.
        let listing = self.shared.storage.list(prefix, start_after, 0, Some(revision)).await?;
        let objects: Vec<_> = self.shared.decode_all(listing.entries).collect();
        Ok(state::cut(objects.iter(), limit, filter, revision))
    }

    /// `prefix` as in [`Query::prefix`].
    pub async fn watch(&self, start: Start, prefix: &str) -> Result<Watcher> {
        let (freshness, after) = match start {
            Start::After(revision) => (Freshness::NotOlderThan(revision), Some(revision)),
            Start::Initial(freshness) => (freshness, None),
            Start::Now => (Freshness::Latest, None),
        };
        self.wait(freshness).await?;
        let signal = self.shared.signal.subscribe();
        if signal.borrow().closed {
            return Err(Error::Closed);
        }
        let state = self.shared.read();
        let delivered = after.unwrap_or(state.revision);
        let compacted = |_| Error::Compacted { asked: delivered, oldest: state.log.complete_after() };
        let place = state.log.place_after(delivered).map_err(compacted)?;
        let initial = match start {
            Start::Initial(_) => state.range(prefix, None).cloned().collect(),
            Start::After(_) | Start::Now => Vec::new(),
        };
        let origin = Origin { place, delivered, initial };
        Ok(Watcher::new(self.shared.clone(), prefix, WatchStream::from_changes(signal), origin))
    }
}

impl Cache {
    /// Stops following the store: watchers end, and reads that would have to wait fail with
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn close(&self) {
        self.task.abort();
        self.shared.close();
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
