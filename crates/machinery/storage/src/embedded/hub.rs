//! Hands each committed batch to the watches whose prefix it touches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::{Batch, Change, Error, Latest, Result, Revision};

/// Changes that wait for one watch at most; a watch that falls further behind reads them from the history.
const PENDING: usize = 4096;

#[derive(Debug)]
pub(super) struct Hub(Mutex<State>);

#[derive(Debug)]
struct State {
    head: Revision,
    closed: bool,
    watches: Vec<Weak<Queue>>,
}

#[derive(Debug)]
pub(super) struct Queue {
    prefix: String,
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug)]
struct Inner {
    pending: VecDeque<Change>,
    /// The newest revision that touched the prefix, or the head when the queue was attached.
    changed: Revision,
    state: QueueState,
}

#[derive(Debug, PartialEq, Eq)]
enum QueueState {
    /// Every change after the attachment is in `pending` or was taken.
    Attached,
    /// `pending` overflowed and was dropped.
    Lost,
    Closed,
}

/// What a watch finds in its queue.
pub(super) enum Taken {
    Batch(Batch),
    Nothing,
    Lost,
    Closed,
}

impl Hub {
    pub(super) fn new(head: Revision) -> Self {
        Self(Mutex::new(State { head, closed: false, watches: Vec::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn head(&self) -> Revision {
        self.state().head
    }

    /// `changes` are in revision order and on disk.
    pub(super) fn publish(&self, changes: impl Iterator<Item = Change>) {
        let changes: Vec<Change> = changes.collect();
        let Some(last) = changes.last() else { return };
        let mut state = self.state();
        state.head = last.revision;
        state.watches.retain(|watch| {
            let Some(queue) = watch.upgrade() else { return false };
            queue.push(&changes);
            true
        });
    }

    /// A queue that receives everything after the returned revision.
    pub(super) fn attach(&self, prefix: &str) -> Result<(Arc<Queue>, Revision)> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        let inner = Inner { pending: VecDeque::new(), changed: state.head, state: QueueState::Attached };
        let queue = Arc::new(Queue { prefix: prefix.into(), inner: Mutex::new(inner), wake: Notify::new() });
        state.watches.push(Arc::downgrade(&queue));
        Ok((queue, state.head))
    }

    /// Puts a lost queue to work again; it receives everything after the returned revision.
    pub(super) fn reattach(&self, queue: &Queue) -> Revision {
        let state = self.state();
        let mut inner = queue.inner();
        if inner.state == QueueState::Lost {
            inner.state = QueueState::Attached;
            inner.changed = state.head;
        }
        state.head
    }

    pub(super) fn latest(&self, prefix: &str) -> Result<Latest> {
        let state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        let watched = state.watches.iter().filter_map(Weak::upgrade).filter(|queue| queue.prefix == prefix);
        // Each watch must reach it, so the earliest that covers all changes: they differ only in attachment.
        let changed = watched.map(|queue| queue.inner().changed).min().unwrap_or(state.head);
        Ok(Latest { revision: state.head, changed })
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for queue in state.watches.drain(..).filter_map(|watch| watch.upgrade()) {
            queue.inner().state = QueueState::Closed;
            queue.wake.notify_one();
        }
    }
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn push(&self, changes: &[Change]) {
        let mut matching = changes.iter().filter(|change| change.key.starts_with(&self.prefix)).peekable();
        if matching.peek().is_none() {
            return;
        }
        let mut inner = self.inner();
        for change in matching {
            inner.changed = change.revision;
            if inner.state == QueueState::Attached {
                inner.pending.push_back(change.clone());
            }
        }
        if inner.pending.len() > PENDING {
            inner.pending = VecDeque::new();
            inner.state = QueueState::Lost;
        }
        drop(inner);
        self.wake.notify_one();
    }

    pub(super) fn take(&self) -> Taken {
        let mut inner = self.inner();
        match inner.state {
            QueueState::Closed => Taken::Closed,
            QueueState::Lost => Taken::Lost,
            QueueState::Attached if inner.pending.is_empty() => Taken::Nothing,
            QueueState::Attached => {
                let changes: Vec<Change> = std::mem::take(&mut inner.pending).into();
                Taken::Batch(Batch { changes, revision: inner.changed })
            }
        }
    }

    /// Returns at once when something was pushed since the last call.
    pub(super) async fn pushed(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChangeKind;

    fn change(key: &str, revision: u64) -> Change {
        let revision = Revision(revision);
        Change { key: key.into(), revision, kind: ChangeKind::Created, value: bytes::Bytes::new() }
    }

    #[test]
    fn a_watch_sees_its_prefix_and_the_store_knows_when_it_last_changed() {
        let hub = Hub::new(Revision(1));
        let (queue, from) = hub.attach("/a/").expect("open");
        assert_eq!(from, Revision(1));
        hub.publish([change("/a/x", 2), change("/b/x", 3)].into_iter());
        assert_eq!(hub.latest("/a/").expect("open"), Latest { revision: Revision(3), changed: Revision(2) });
        let Taken::Batch(batch) = queue.take() else { panic!("nothing taken") };
        assert_eq!(batch, Batch { changes: vec![change("/a/x", 2)], revision: Revision(2) });
        assert!(matches!(queue.take(), Taken::Nothing));
    }

    #[test]
    fn an_overflowing_watch_is_told_and_starts_again_at_the_head() {
        let hub = Hub::new(Revision(1));
        let (queue, _) = hub.attach("/").expect("open");
        hub.publish((0..=PENDING as u64).map(|n| change("/x", n + 2)));
        assert!(matches!(queue.take(), Taken::Lost));
        assert_eq!(hub.reattach(&queue), hub.head());
        hub.publish([change("/x", 9000)].into_iter());
        assert!(matches!(queue.take(), Taken::Batch(batch) if batch.changes.len() == 1));
    }

    #[test]
    fn closing_reaches_every_watch() {
        let hub = Hub::new(Revision(1));
        let (queue, _) = hub.attach("/").expect("open");
        hub.close();
        assert!(matches!(queue.take(), Taken::Closed));
        assert!(matches!(hub.attach("/"), Err(Error::Closed)));
        assert!(matches!(hub.latest("/"), Err(Error::Closed)));
    }
}
