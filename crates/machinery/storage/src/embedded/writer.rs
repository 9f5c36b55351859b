//! The writer thread: group commit.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::hub::Hub;
use super::index::{Current, Index};
use super::lock::DirLock;
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
    connection: Connection,
    index: Index,
    head: Revision,
    compacted: Revision,
    retention: Retention,
    marks: Marks,
    hub: Arc<Hub>,
    /// Last, so that it is let go after the connection is closed.
    _lock: Option<DirLock>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        index: Index,
        head: Revision,
        compacted: Revision,
        retention: Retention,
        hub: Arc<Hub>,
        lock: Option<DirLock>,
    ) -> Self {
        Self { connection, index, head, compacted, retention, marks: Marks::default(), hub, _lock: lock }
    }

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
        }
    }

    /// Decides one write against the index; the next of the batch sees it as done.
    fn plan(
        &mut self,
        key: &Arc<str>,
        expect: Expect,
        op: Op,
        changes: &mut Vec<(Change, Revision)>,
    ) -> Result<Revision> {
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
        changes.push((Change { key, revision, kind, value: exact(&value) }, created));
        Ok(revision)
    }

    /// Disk, then watches, then answers: who is answered finds its write wherever it looks.
    fn commit(&mut self, changes: Vec<(Change, Revision)>, answers: Answers) {
        let failure = if changes.is_empty() { None } else { self.insert(&changes).err() };
        match failure {
            None => {
                self.index.commit();
                if let Some((last, _)) = changes.last() {
                    self.head = last.revision;
                    self.hub.publish(changes.into_iter().map(|(change, _)| change));
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

    fn insert(&mut self, changes: &[(Change, Revision)]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for (change, created) in changes {
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
            forget(&mut self.connection, self.compacted, before).map_err(engine("compact"))?;
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
    }
}

/// Removes what changes in (`from`, `to`] superseded, and the deletions among them.
fn forget(connection: &mut Connection, from: Revision, to: Revision) -> rusqlite::Result<()> {
    let window = [schema::stored(from), schema::stored(to)];
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached(
            "DELETE FROM history WHERE revision IN (
                 SELECT older.revision FROM history AS newer
                 JOIN history AS older ON older.key = newer.key AND older.revision < newer.revision
                 WHERE newer.revision > ?1 AND newer.revision <= ?2)",
        )?
        .execute(window)?;
    transaction
        .prepare_cached("DELETE FROM history WHERE revision > ?1 AND revision <= ?2 AND deleted")?
        .execute(window)?;
    transaction.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'compacted'")?.execute([window[1]])?;
    transaction.commit()
}
