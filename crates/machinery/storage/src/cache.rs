//! The watch cache: every object under one prefix, and what lately happened to them.

mod event;

use std::sync::Arc;

use crate::{Meta, Object, Result, Revision, Storage};
pub use event::{Event, EventKind};

/// Reads from an encoded object what selectors need; an error leaves the object out of the cache, logged.
pub type Extract = dyn Fn(&[u8]) -> Result<Meta, Box<dyn std::error::Error + Send + Sync>> + Send + Sync;

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

/// Ends its task when dropped.
pub struct Cache;

impl Cache {
    /// Lists `prefix`, then follows it. `prefix` ends in a slash.
    pub async fn start(storage: Arc<dyn Storage>, prefix: impl Into<String>, extract: Arc<Extract>) -> Result<Self> {
        let _ = (storage, prefix.into(), extract);
        todo!("signatures first")
    }

    pub fn prefix(&self) -> &str {
        todo!("signatures first")
    }

    /// Waits until the cache is as fresh as asked, and says at which revision it is.
    pub async fn wait(&self, freshness: Freshness) -> Result<Revision> {
        let _ = freshness;
        todo!("signatures first")
    }

    pub async fn get(&self, key: &str, freshness: Freshness) -> Result<Option<Arc<Object>>> {
        let _ = (key, freshness);
        todo!("signatures first")
    }

    pub async fn list(&self, query: Query<'_>, filter: impl Fn(&Object) -> bool + Send) -> Result<Page> {
        let _ = (query, filter(todo!("signatures first")));
        todo!("signatures first")
    }

    /// `prefix` as in [`Query::prefix`].
    pub async fn watch(&self, start: Start, prefix: &str) -> Result<Watcher> {
        let _ = (start, prefix);
        todo!("signatures first")
    }
}

/// A stream of `Result<Arc<Event>>` in revision order without gaps; ends after an error
/// ([`Error::Compacted`](crate::Error::Compacted): too slow, list again).
pub struct Watcher;

impl Watcher {
    /// The objects that [`Start::Initial`] asked for, in key order; empty for other starts and at a second call.
    pub fn take_initial(&mut self) -> Vec<Arc<Object>> {
        todo!("signatures first")
    }

    /// The watcher has been given everything up to this revision: what a bookmark may say.
    /// [`Cache::wait`] with [`Freshness::Latest`] first moves it past writes to other prefixes.
    pub fn progress(&self) -> Revision {
        todo!("signatures first")
    }
}

impl futures::Stream for Watcher {
    type Item = Result<Arc<Event>>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        todo!("signatures first")
    }
}
