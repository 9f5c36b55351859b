//! From a directory to a running engine.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use rusqlite::{Connection, OpenFlags};

use super::hub::Hub;
use super::index::{self, Loaded};
use super::lock::DirLock;
use super::log::{self, Log};
use super::read::Reader;
use super::retention::{Marks, Retention};
use super::writer::Writer;
use super::{Embedded, Handle, schema};

const FILE: &str = "store.db";

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} is in use by {holder}", path.display())]
    InUse { path: PathBuf, holder: String },
    #[error("cannot lock {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("store {} has schema generation {found}, this binary knows up to {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot open store {}", path.display())]
    Engine {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot start the writer thread of store {}", path.display())]
    Thread {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("opening the store was interrupted by a shutdown")]
    Interrupted,
}

pub(super) fn directory(dir: &Path, retention: Retention) -> Result<Embedded, OpenError> {
    // Secrets are stored as they come: the files are for the owner only.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Make { path: dir.into(), source })?;
    let lock = DirLock::take(dir)?;
    let path = dir.join(FILE);
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| OpenError::Make { path: path.clone(), source })?;
    run(&path, OpenFlags::empty(), Some(lock), retention)
}

/// A connection to the store's file, set up.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    connect_with(path, OpenFlags::empty())
}

fn connect_with(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time, so SQLite need not lock it itself.
    let flags =
        flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    schema::configure(&connection)?;
    Ok(connection)
}

pub(super) fn memory(retention: Retention) -> Result<Embedded, OpenError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // SQLite's in-memory file system; the leading slash makes the name visible to both connections.
    let name = format!("file:/sampan-{}?vfs=memdb", COUNT.fetch_add(1, Ordering::Relaxed));
    run(Path::new(&name), OpenFlags::SQLITE_OPEN_URI, None, retention)
}

fn run(path: &Path, flags: OpenFlags, lock: Option<DirLock>, retention: Retention) -> Result<Embedded, OpenError> {
    let failed = |source| OpenError::Engine { path: path.into(), source };
    let mut connection = connect_with(path, flags).map_err(failed)?;
    let found = schema::prepare(&mut connection).map_err(failed)?;
    if found > schema::GENERATION {
        return Err(OpenError::Newer { path: path.into(), found, known: schema::GENERATION });
    }
    let compacted = schema::compacted(&connection).map_err(failed)?;
    let Loaded { index, newest, superseded } = index::load(&connection).map_err(failed)?;
    let head = newest.max(compacted);
    let file = lock.is_some().then_some(path);
    if let Some(path) = file {
        log::make_room(path).map_err(|source| OpenError::Make { path: path.into(), source })?;
    }
    let reading = connect_with(path, flags).map_err(failed)?;

    let hub = Arc::new(Hub::new(head));
    let (queue, requests) = mpsc::channel();
    let writer = Writer {
        connection,
        log: Log::new(file.map(Path::to_owned)),
        index,
        head,
        compacted,
        retention,
        marks: Marks::default(),
        superseded,
        hub: hub.clone(),
        _lock: lock,
    };
    let thread = std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || writer.run(&requests))
        .map_err(|source| OpenError::Thread { path: path.into(), source })?;
    Ok(Embedded(Arc::new(Handle {
        queue: Mutex::new(Some(queue)),
        thread: Mutex::new(Some(thread)),
        reader: Reader::new(reading),
        hub,
    })))
}
