//! What the cache's handle, its task and its watchers have in common.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use super::state::{Applied, State};
use super::{Extract, Freshness, Keep};
use crate::{Batch, Change, ChangeKind, Entry, Error, Listing, Object, Result, Revision, Storage};

pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) prefix: String,
    extract: Arc<Extract>,
    state: RwLock<State>,
    /// Sent after the state has changed: what waits looks there.
    pub(super) signal: watch::Sender<Signal>,
}

/// How far the cache has followed its store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub(super) applied: Revision,
    pub(super) closed: bool,
}

impl Shared {
    /// Lists `prefix`.
    pub(super) async fn load(
        storage: Arc<dyn Storage>,
        prefix: String,
        extract: Arc<Extract>,
        keep: Keep,
    ) -> Result<Self> {
        let Listing { entries, revision, .. } = storage.list(&prefix, None, 0, None).await?;
        let objects = entries.into_iter().filter_map(|entry| decode(&*extract, entry.key, entry.modified, entry.value));
        let state = RwLock::new(State::new(objects, revision, keep));
        let signal = watch::Sender::new(Signal { applied: revision, closed: false });
        Ok(Self { storage, prefix, extract, state, signal })
    }

    /// Lists again, after events were missed.
    pub(super) async fn reload(&self) -> Result<()> {
        let Listing { entries, revision, .. } = self.storage.list(&self.prefix, None, 0, None).await?;
        let objects: Vec<_> = self.decode_all(entries).collect();
        self.write().replace(objects.into_iter(), revision);
        self.announce(revision);
        Ok(())
    }

    pub(super) fn decode_all(&self, entries: Vec<Entry>) -> impl Iterator<Item = Arc<Object>> {
        entries.into_iter().filter_map(|entry| decode(&*self.extract, entry.key, entry.modified, entry.value))
    }

    pub(super) fn apply(&self, batch: Batch) {
        // Decoded before the lock is taken.
        let decode = |change: Change| Applied {
            deleted: change.kind == ChangeKind::Deleted,
            revision: change.revision,
            object: decode(&*self.extract, change.key.clone(), change.revision, change.value),
            key: change.key,
        };
        let changes: Vec<Applied> = batch.changes.into_iter().map(decode).collect();
        let now = Instant::now();
        {
            let mut state = self.write();
            for change in changes {
                state.apply(change, now);
            }
            state.revision = state.revision.max(batch.revision);
        }
        self.announce(batch.revision);
    }

    fn announce(&self, applied: Revision) {
        self.signal.send_modify(|signal| signal.applied = signal.applied.max(applied));
    }

    pub(super) fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn wait(&self, freshness: Freshness) -> Result<Revision> {
        let applied = self.read().revision;
        match freshness {
            Freshness::Any => return Ok(applied),
            Freshness::NotOlderThan(revision) if revision <= applied => return Ok(applied),
            Freshness::NotOlderThan(_) | Freshness::Latest => {}
        }
        let latest = self.storage.latest(&self.prefix).await?;
        if let Freshness::NotOlderThan(asked) = freshness
            && asked > latest.revision
        {
            return Err(Error::Future { asked, newest: latest.revision });
        }
        if applied < latest.changed {
            let mut signal = self.signal.subscribe();
            let reached = signal.wait_for(|signal| signal.closed || signal.applied >= latest.changed).await;
            if reached.map_err(|_| Error::Closed)?.closed {
                return Err(Error::Closed);
            }
        }
        // Nothing under the prefix changed in between, so the cache is at the store's revision.
        if self.read().revision < latest.revision {
            let mut state = self.write();
            state.revision = state.revision.max(latest.revision);
        }
        Ok(latest.revision)
    }
}

/// `None`, with a line in the log, for stored bytes that no object can be made of.
fn decode(extract: &Extract, key: Arc<str>, revision: Revision, json: Bytes) -> Option<Arc<Object>> {
    let (meta, json) = match extract(&json) {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%key, %revision, error = &*error as &dyn std::error::Error, "stored object is unreadable");
            return None;
        }
    };
    match Object::new(key.clone(), revision, meta, json) {
        Ok(object) => Some(Arc::new(object)),
        Err(error) => {
            tracing::error!(%key, %revision, error = &error as &dyn std::error::Error, "stored object is unreadable");
            None
        }
    }
}
