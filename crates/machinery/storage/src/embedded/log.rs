//! SQLite's write-ahead log: room for it beforehand, and moving its pages into the database beside the writer.
//!
//! A commit is one append to the log and one wait for the disk. Were the log to grow, or the pages to be moved by the
//! commit that fills it, that commit would wait for the file system's journal too: milliseconds for a tenth of one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::{open, schema};
use crate::Change;

const PAGE: usize = 4096;

/// The log's pages are moved once there are about this many.
const FULL: usize = 800;

/// Room for a full log and for what is written while it is being moved.
const ROOM: u64 = 4 << 20;

/// The log of one database file, as its writer sees it.
pub(super) struct Log {
    /// `None`: in memory, there is no log.
    database: Option<PathBuf>,
    /// Written since the log began anew; an estimate.
    pages: usize,
    moving: Option<JoinHandle<rusqlite::Result<()>>>,
}

impl Log {
    pub(super) fn new(database: Option<PathBuf>) -> Self {
        Self { database, pages: 0, moving: None }
    }

    /// Counts what a commit has written: its values, a page of the index for each key, and the first page.
    pub(super) fn wrote<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) {
        self.pages += changes.map(|change| 1 + change.value.len().div_ceil(PAGE)).sum::<usize>() + 1;
    }

    /// Called when a commit has been answered. Starts moving a full log's pages; once that is done, moves those few
    /// that were written meanwhile, so that the next commit begins the log anew.
    pub(super) fn keep_short(&mut self, connection: &Connection) {
        let Some(database) = &self.database else { return };
        match self.moving.take_if(|moving| moving.is_finished()) {
            Some(moving) => {
                // A panic was reported by the panic hook.
                let moved = moving.join().unwrap_or(Ok(())).and_then(|()| move_pages(connection));
                self.pages = 0;
                warn(moved);
            }
            None if self.moving.is_none() && self.pages >= FULL => {
                let database = database.clone();
                let work = move || move_pages(&open::connect(&database)?);
                match std::thread::Builder::new().name("store-log".into()).spawn(work) {
                    Ok(moving) => self.moving = Some(moving),
                    Err(_) => {
                        warn(move_pages(connection));
                        self.pages = 0;
                    }
                }
            }
            None => {}
        }
    }

    /// Waits for the thread that moves pages, so that the files can be closed.
    pub(super) fn settle(&mut self) {
        if let Some(moving) = self.moving.take() {
            let _ = moving.join();
        }
    }
}

/// The log then grows until it can be moved: nothing is lost.
fn warn(moved: rusqlite::Result<()>) {
    if let Err(error) = moved {
        tracing::warn!(error = &error as &dyn std::error::Error, "the store's log was not moved into its database");
    }
}

/// As far as readers let it; never waits for the writer.
fn move_pages(connection: &Connection) -> rusqlite::Result<()> {
    // A connection that has read nothing does not know yet that there is a log.
    schema::compacted(connection)?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Fills up the log's file with zeros, which SQLite takes for the log's end. Before the first write of the process.
pub(super) fn make_room(database: &Path) -> io::Result<()> {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    let zeros = [0; 64 << 10];
    let filled = (length..ROOM).step_by(zeros.len()).try_for_each(|at| file.write_all_at(&zeros, at));
    // A disk that has no room for this may have room for writes.
    filled.or_else(|_| file.set_len(length))
}
