//! Reads, on a connection of their own: each is one SQLite snapshot.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::hub::Hub;
use super::{engine, schema};
use crate::{Change, ChangeKind, Entry, Error, Listing, Result, Revision};

#[derive(Clone)]
pub(super) struct Reader(Arc<Mutex<Option<Connection>>>);

impl Reader {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(Some(connection))))
    }

    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Gives `query` a snapshot and the revision before which history is gone in it.
    fn snapshot<T>(
        &self,
        operation: &'static str,
        query: impl FnOnce(&Transaction<'_>, Revision) -> rusqlite::Result<Result<T>>,
    ) -> Result<T> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.as_mut().ok_or(Error::Closed)?;
        let run = || {
            let transaction = connection.transaction()?;
            let oldest = schema::compacted(&transaction)?;
            query(&transaction, oldest)
        };
        run().map_err(engine(operation))?
    }

    pub(super) fn get(&self, key: Arc<str>) -> Result<Option<Entry>> {
        self.snapshot("get", |transaction, _| {
            let mut newest = transaction.prepare_cached(
                "SELECT revision, created, deleted, value FROM history WHERE key = ?1 ORDER BY revision DESC LIMIT 1",
            )?;
            let entry = newest
                .query_row([key.as_bytes()], |row| {
                    let entry = Entry {
                        key: key.clone(),
                        modified: schema::revision(row.get(0)?),
                        created: schema::revision(row.get(1)?),
                        value: value(row, 3)?,
                    };
                    Ok((!row.get::<_, bool>(2)?).then_some(entry))
                })
                .optional()?;
            Ok(Ok(entry.flatten()))
        })
    }

    pub(super) fn list(
        &self,
        hub: &Hub,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listing> {
        loop {
            let head = hub.head();
            let revision = at.unwrap_or(head);
            if revision > head {
                return Err(Error::Future { asked: revision, newest: head });
            }
            let listed = self.snapshot("list", |transaction, oldest| {
                if revision < oldest {
                    return Ok(Err(Error::Compacted { asked: revision, oldest }));
                }
                entries(transaction, prefix, start_after, limit, revision).map(Ok)
            });
            match listed {
                // The head moved on and was compacted before the snapshot was taken.
                Err(Error::Compacted { .. }) if at.is_none() => {}
                listed => return listed,
            }
        }
    }

    /// The changes under `prefix` in (`after`, `to`], about `limit` of them, and up to where they reach.
    pub(super) fn history(
        &self,
        prefix: &str,
        after: Revision,
        to: Revision,
        limit: usize,
    ) -> Result<(Vec<Change>, Revision)> {
        self.snapshot("read history", |transaction, oldest| {
            if after < oldest {
                return Ok(Err(Error::Compacted { asked: after, oldest }));
            }
            let mut statement = transaction.prepare_cached(
                "SELECT revision, key, created, deleted, value FROM history
                 WHERE revision > ?1 AND revision <= ?2 AND key >= ?3 AND key < ?4
                 ORDER BY revision LIMIT ?5",
            )?;
            let bound =
                params![schema::stored(after), schema::stored(to), prefix.as_bytes(), end(prefix), saturating(limit)];
            let changes = statement.query_map(bound, change)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let reached = match changes.last() {
                Some(last) if changes.len() == limit => last.revision,
                _ => to,
            };
            Ok(Ok((changes, reached)))
        })
    }
}

/// Two steps, so that neither superseded values nor those beyond the limit are read.
fn entries(
    transaction: &Transaction<'_>,
    prefix: &str,
    start_after: Option<&str>,
    limit: usize,
    at: Revision,
) -> rusqlite::Result<Listing> {
    let mut keys = transaction.prepare_cached(
        "SELECT key, max(revision) AS newest, created, deleted FROM history
         WHERE key >= ?1 AND key < ?2 AND revision <= ?3
         GROUP BY key HAVING NOT deleted ORDER BY key LIMIT ?4",
    )?;
    let mut read = transaction.prepare_cached("SELECT value FROM history WHERE revision = ?1")?;
    // The key just after another is that one and a zero byte.
    let resumed = start_after.filter(|after| *after >= prefix).map(|after| [after.as_bytes(), &[0]].concat());
    let start = resumed.unwrap_or_else(|| prefix.into());
    // One more than asked for shows whether the limit cut.
    let most = if limit == 0 { -1 } else { saturating(limit).saturating_add(1) };
    let bound = params![start, end(prefix), schema::stored(at), most];
    let mut rows = keys.query(bound)?;
    let mut listing = Listing { entries: Vec::new(), revision: at, more: false };
    while let Some(row) = rows.next()? {
        if limit != 0 && listing.entries.len() == limit {
            listing.more = true;
            break;
        }
        let modified: i64 = row.get(1)?;
        listing.entries.push(Entry {
            key: key(row, 0)?,
            modified: schema::revision(modified),
            created: schema::revision(row.get(2)?),
            value: read.query_row([modified], |row| value(row, 0))?,
        });
    }
    Ok(listing)
}

/// Comes after every key that starts with `prefix` and before every other key that is greater.
fn end(prefix: &str) -> Vec<u8> {
    // No byte of UTF-8 is 0xff.
    match prefix.as_bytes().split_last() {
        Some((last, rest)) => [rest, &[last + 1]].concat(),
        None => vec![0xff],
    }
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let revision: i64 = row.get(0)?;
    let kind = match (row.get::<_, bool>(3)?, row.get::<_, i64>(2)? == revision) {
        (true, _) => ChangeKind::Deleted,
        (false, true) => ChangeKind::Created,
        (false, false) => ChangeKind::Updated,
    };
    Ok(Change { key: key(row, 1)?, revision: schema::revision(revision), kind, value: value(row, 4)? })
}

/// Keys are written from strings.
fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Arc<str>> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_blob()?).into())
}

fn value(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(super::exact(row.get_ref(column)?.as_blob()?))
}

fn saturating(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
