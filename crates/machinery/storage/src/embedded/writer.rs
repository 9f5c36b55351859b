//! The writer: group commit, in a thread of its own or in that of the only one who writes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::hub::Hub;
use super::index::{Current, Index, Superseded};
use super::lock::DirLock;
use super::log::Log;
use super::retention::{Marks, Retention};
use super::{engine, exact, schema};
use crate::{Change, ChangeKind, Error, Expect, Op, Result, Revision};

/// Writes in one transaction at most: what waits longer than such a batch takes would wait on the disk anyway.
const BATCH: usize = 512;

/// A disk that takes longer than this for a commit must not hold up a caller's thread.
const QUICK: Duration = Duration::from_millis(2);

/// After so many commits outside of its thread, the thread is asked to see to what a commit leaves to do. They fill a
/// fraction of the log's spare room.
const UNTENDED: usize = 32;

pub(super) enum Request {
    Write {
        key: Arc<str>,
        expect: Expect,
        op: Op,
        answer: oneshot::Sender<Result<Revision>>,
    },
    Compact {
        before: Revision,
        answer: oneshot::Sender<Result<()>>,
    },
    /// Nothing but what follows every batch.
    Tend,
}

/// The writer, its thread's and its callers': `None` once it is closed.
pub(super) type Shared = Arc<Mutex<Option<Writer>>>;

/// Whom to tell what, once the batch is on disk.
type Answers = Vec<(oneshot::Sender<Result<Revision>>, Result<Revision>)>;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) log: Log,
    pub(super) index: Index,
    pub(super) head: Revision,
    pub(super) compacted: Revision,
    pub(super) retention: Retention,
    pub(super) marks: Marks,
    pub(super) superseded: Superseded,
    pub(super) hub: Arc<Hub>,
    /// What the last commit took.
    pub(super) took: Duration,
    /// Commits since the thread last had the writer.
    pub(super) untended: usize,
    /// Last, so that it is let go after the connection is closed.
    pub(super) _lock: Option<DirLock>,
}

/// One write of a batch, decided and not yet on disk.
struct Planned {
    change: Change,
    created: Revision,
    /// The version that it replaces or deletes.
    replaced: Option<Revision>,
}

/// A commit that did not happen, for everyone who waits for it.
struct Failed {
    full: bool,
    message: String,
}

impl Failed {
    fn error(&self) -> Error {
        match self.full {
            true => Error::Full { operation: "write" },
            false => Error::Engine { operation: "write", source: self.message.clone().into() },
        }
    }
}

/// The thread: until every sender is gone. `queued` counts what it has not taken yet.
pub(super) fn run(shared: &Shared, requests: &Receiver<Request>, queued: &AtomicUsize) {
    let _end = End(shared);
    while let Ok(first) = requests.recv() {
        // Whoever panicked with the writer in its hands may have left it half done: nobody goes on with it.
        let Ok(mut writer) = shared.lock() else { return };
        let Some(writer) = writer.as_mut() else { return };
        let batch: Vec<Request> = std::iter::once(first).chain(requests.try_iter().take(BATCH - 1)).collect();
        queued.fetch_sub(batch.len(), Ordering::AcqRel);
        writer.batch(batch);
    }
}

/// However the thread ends, the writer is closed with it.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Writer {
    fn batch(&mut self, requests: Vec<Request>) {
        let mut compactions = Vec::new();
        let (mut changes, mut answers) = (Vec::new(), Answers::new());
        for request in requests {
            match request {
                Request::Write { key, expect, op, answer } => {
                    let outcome = self.plan(&key, expect, op, &mut changes);
                    answers.push((answer, outcome));
                }
                Request::Compact { before, answer } => compactions.push((before, answer)),
                Request::Tend => {}
            }
        }
        self.answer(changes, answers);
        for (before, answer) in compactions {
            let _ = answer.send(self.compact(before));
        }
        self.untended = 0;
        self.forget_what_is_due();
        self.log.keep_short(&self.connection);
    }

    /// Whether the disk is quick enough for a caller's thread to wait for it.
    pub(super) fn is_quick(&self) -> bool {
        self.took < QUICK
    }

    /// One write, in the thread of who asks for it; and whether the writer's own thread should see to what follows.
    pub(super) fn write(&mut self, key: &Arc<str>, expect: Expect, op: Op) -> (Result<Revision>, bool) {
        let mut changes = Vec::with_capacity(1);
        let outcome = self.plan(key, expect, op, &mut changes);
        let outcome = self.commit(changes).map_err(|failed| failed.error()).and(outcome);
        self.untended += 1;
        let tend = self.untended.is_multiple_of(UNTENDED) || self.due().is_some();
        (outcome, tend)
    }

    /// Decides one write against the index; the next of the batch sees it as done.
    fn plan(&mut self, key: &Arc<str>, expect: Expect, op: Op, changes: &mut Vec<Planned>) -> Result<Revision> {
        let (key, current) = self.index.check(key, expect)?;
        let revision = Revision(self.head.0 + changes.len() as u64 + 1);
        let created = current.map_or(revision, |current| current.created);
        let (kind, value, after) = match op {
            Op::Put(value) => {
                let kind = if current.is_none() { ChangeKind::Created } else { ChangeKind::Updated };
                (kind, value, Some(Current { created, modified: revision }))
            }
            // What is not there cannot be deleted, whatever the writer expected.
            Op::Delete { .. } if current.is_none() => {
                return Err(Error::Conflict { key: key.to_string(), expected: expect, actual: None });
            }
            Op::Delete { last } => (ChangeKind::Deleted, last, None),
        };
        self.index.set(key.clone(), after);
        let change = Change { key, revision, kind, value: exact(&value) };
        changes.push(Planned { change, created, replaced: current.map(|current| current.modified) });
        Ok(revision)
    }

    /// Also the conflicts of a batch that failed: they may be with writes of it that did not happen.
    fn answer(&mut self, changes: Vec<Planned>, answers: Answers) {
        let failure = self.commit(changes).err();
        for (answer, outcome) in answers {
            let _ = answer.send(failure.as_ref().map_or(outcome, |failed| Err(failed.error())));
        }
    }

    /// Disk, then watches: who is answered after this finds its write wherever it looks.
    fn commit(&mut self, changes: Vec<Planned>) -> Result<(), Failed> {
        let Some(last) = changes.last().map(|last| last.change.revision) else { return Ok(()) };
        let began = Instant::now();
        let inserted = self.insert(&changes);
        self.took = began.elapsed();
        if let Err(error) = inserted {
            self.index.roll_back();
            tracing::error!(error = &error as &dyn std::error::Error, writes = changes.len(), "commit failed");
            let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
            return Err(Failed { full, message: error.to_string() });
        }
        self.index.commit();
        self.head = last;
        self.log.wrote(changes.iter().map(|planned| &planned.change));
        self.supersede(&changes);
        self.hub.publish(changes.into_iter().map(|planned| planned.change));
        Ok(())
    }

    fn supersede(&mut self, changes: &[Planned]) {
        for Planned { change, replaced, .. } in changes {
            self.superseded.extend(replaced.map(|older| (change.revision, older)));
            if change.kind == ChangeKind::Deleted {
                self.superseded.push_back((change.revision, change.revision));
            }
        }
    }

    fn insert(&mut self, changes: &[Planned]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for Planned { change, created, .. } in changes {
                let deleted = change.kind == ChangeKind::Deleted;
                insert.execute(params![
                    schema::stored(change.revision),
                    change.key.as_bytes(),
                    schema::stored(*created),
                    deleted,
                    &change.value[..]
                ])?;
            }
        }
        transaction.commit()
    }

    fn compact(&mut self, before: Revision) -> Result<()> {
        if before > self.head {
            return Err(Error::Future { asked: before, newest: self.head });
        }
        if before > self.compacted {
            let due = self.superseded.partition_point(|(by, _)| *by <= before);
            let rows = self.superseded.range(..due).map(|(_, row)| *row);
            forget(&mut self.connection, before, rows).map_err(engine("compact"))?;
            self.superseded.drain(..due);
            self.compacted = before;
        }
        Ok(())
    }

    /// Up to where history should go now.
    fn due(&mut self) -> Option<Revision> {
        self.marks.due(&self.retention, Instant::now(), self.head, self.compacted)
    }

    fn forget_what_is_due(&mut self) {
        if let Some(target) = self.due()
            && let Err(error) = self.compact(target)
        {
            // Tried again after the next write; a full disk ends up here too.
            tracing::warn!(error = &error as &dyn std::error::Error, "compaction failed");
        }
    }
}

/// Nobody is left waiting for it.
impl Drop for Writer {
    fn drop(&mut self) {
        self.hub.close();
        self.log.settle();
    }
}

/// Removes `rows`, which are all that changes up to `before` have superseded.
fn forget(connection: &mut Connection, before: Revision, rows: impl Iterator<Item = Revision>) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut delete = transaction.prepare_cached("DELETE FROM history WHERE revision = ?1")?;
        for row in rows {
            delete.execute([schema::stored(row)])?;
        }
        let mut mark = transaction.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'compacted'")?;
        mark.execute([schema::stored(before)])?;
    }
    transaction.commit()
}
