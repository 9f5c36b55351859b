//! The writer thread: group commit.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

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

pub(super) enum Request {
    Write { key: Arc<str>, expect: Expect, op: Op, answer: oneshot::Sender<Result<Revision>> },
    Compact { before: Revision, answer: oneshot::Sender<Result<()>> },
}

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

impl Writer {
    /// Until every sender is gone.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let queued = std::iter::once(first).chain(requests.try_iter().take(BATCH - 1));
            let mut compactions = Vec::new();
            let (mut changes, mut answers) = (Vec::new(), Answers::new());
            for request in queued {
                match request {
                    Request::Write { key, expect, op, answer } => {
                        let outcome = self.plan(&key, expect, op, &mut changes);
                        answers.push((answer, outcome));
                    }
                    Request::Compact { before, answer } => compactions.push((before, answer)),
                }
            }
            self.commit(changes, answers);
            for (before, answer) in compactions {
                let _ = answer.send(self.compact(before));
            }
            self.forget_what_is_due();
            self.log.keep_short(&self.connection);
        }
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

    /// Disk, then watches, then answers: who is answered finds its write wherever it looks.
    fn commit(&mut self, changes: Vec<Planned>, answers: Answers) {
        let failure = if changes.is_empty() { None } else { self.insert(&changes).err() };
        match failure {
            None => {
                self.index.commit();
                if let Some(last) = changes.last() {
                    self.head = last.change.revision;
                    self.log.wrote(changes.iter().map(|planned| &planned.change));
                    self.supersede(&changes);
                    self.hub.publish(changes.into_iter().map(|planned| planned.change));
                }
                for (answer, outcome) in answers {
                    let _ = answer.send(outcome);
                }
            }
            // Also the conflicts: they may be with writes of this batch that did not happen.
            Some(error) => {
                self.index.roll_back();
                tracing::error!(error = &error as &dyn std::error::Error, writes = changes.len(), "commit failed");
                let (full, message) =
                    (error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull), error.to_string());
                for (answer, _) in answers {
                    let error = if full {
                        Error::Full { operation: "write" }
                    } else {
                        Error::Engine { operation: "write", source: message.clone().into() }
                    };
                    let _ = answer.send(Err(error));
                }
            }
        }
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

    fn forget_what_is_due(&mut self) {
        if let Some(target) = self.marks.due(&self.retention, Instant::now(), self.head, self.compacted)
            && let Err(error) = self.compact(target)
        {
            // Tried again after the next write; a full disk ends up here too.
            tracing::warn!(error = &error as &dyn std::error::Error, "compaction failed");
        }
    }
}

/// However the thread ends, nobody is left waiting for it.
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
