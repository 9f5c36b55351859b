//! The tables, and how connections are set up.
//!
//! `history` has one row per write, its revision as the row id; a deletion is a row too and holds the object as it
//! was deleted. The index covers everything but the value, so finding current keys never reads values.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::Revision;

/// Of the tables below; a change of them that this code could not read raises it.
pub(super) const GENERATION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE history (
        revision INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        created INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB NOT NULL
    );
    CREATE INDEX history_by_key ON history (key, revision, created, deleted);
    INSERT INTO meta VALUES ('compacted', 0);
";

pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // By `Log`, not by the commit that fills the log.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // KiB. Reads come from the watch cache; this serves the index's upper pages.
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // The log stays this long after a burst that a reader kept from being checkpointed.
    connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
    connection.set_prepared_statement_cache_capacity(16);
    // Only the in-memory file system makes connections wait for each other.
    connection.busy_timeout(Duration::from_secs(10))
}

/// Makes the tables in a new store; answers with the store's generation.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let made: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))?;
    if made == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute("INSERT INTO meta VALUES ('generation', ?1)", [GENERATION])?;
    }
    let found = transaction.query_row("SELECT value FROM meta WHERE name = 'generation'", [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(found)
}

/// History before this revision is gone.
pub(super) fn compacted(connection: &Connection) -> rusqlite::Result<Revision> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'compacted'")?;
    let value = statement.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(revision(value.unwrap_or_default()))
}

/// SQLite's integers are signed; revisions never come near the sign.
pub(super) fn revision(stored: i64) -> Revision {
    Revision(stored.unsigned_abs())
}

pub(super) fn stored(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
