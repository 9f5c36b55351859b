//! One reader of the log: a place in it, and a wake-up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio_stream::wrappers::WatchStream;

use super::Event;
use super::shared::{Shared, Signal};
use crate::{Error, Object, Result, Revision};

/// A stream of events in revision order without gaps; ends after an error
/// ([`Error::Compacted`]: too slow, list again).
pub struct Watcher {
    shared: Arc<Shared>,
    prefix: Box<str>,
    /// The place in the log to look at next.
    place: u64,
    /// Everything up to here was yielded.
    delivered: Revision,
    initial: Vec<Arc<Object>>,
    signal: WatchStream<Signal>,
    ended: bool,
}

/// Where a watcher begins, read under one lock.
pub(super) struct Origin {
    pub(super) place: u64,
    pub(super) delivered: Revision,
    pub(super) initial: Vec<Arc<Object>>,
}

impl Watcher {
    /// `signal` was subscribed to before `origin` was read.
    pub(super) fn new(shared: Arc<Shared>, prefix: &str, signal: WatchStream<Signal>, origin: Origin) -> Self {
        let Origin { place, delivered, initial } = origin;
        Self { shared, prefix: prefix.into(), place, delivered, initial, signal, ended: false }
    }

    /// The objects that [`Start::Initial`](super::Start::Initial) asked for, in key order; empty for other starts
    /// and at a second call.
    pub fn take_initial(&mut self) -> Vec<Arc<Object>> {
        std::mem::take(&mut self.initial)
    }

    /// The watcher has been given everything up to this revision: what a bookmark may say.
    /// [`Cache::wait`](super::Cache::wait) with [`Freshness::Latest`](super::Freshness::Latest) first moves it past
    /// writes to other prefixes.
    /// Never goes back.
    pub fn progress(&mut self) -> Revision {
        let state = self.shared.read();
        if let Ok(None) = state.log.find(self.place, &self.prefix) {
            self.place = state.log.end();
            self.delivered = self.delivered.max(state.revision);
        }
        self.delivered
    }

    /// The next event in the log, if it has come.
    fn step(&mut self) -> Option<Result<Arc<Event>>> {
        let state = self.shared.read();
        match state.log.find(self.place, &self.prefix) {
            Ok(Some((place, event))) => {
                self.place = place + 1;
                self.delivered = event.revision();
                Some(Ok(event.clone()))
            }
            Ok(None) => {
                self.place = state.log.end();
                self.delivered = self.delivered.max(state.revision);
                None
            }
            Err(_) => Some(Err(Error::Compacted { asked: self.delivered, oldest: state.log.complete_after() })),
        }
    }
}

impl Stream for Watcher {
    type Item = Result<Arc<Event>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(item) = self.step() {
                self.ended = item.is_err();
                return Poll::Ready(Some(item));
            }
            match ready!(Pin::new(&mut self.signal).poll_next(cx)) {
                Some(signal) if !signal.closed => {}
                _ => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
            }
        }
    }
}
