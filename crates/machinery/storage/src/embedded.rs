//! The embedded engine: SQLite behind one writer thread (`README.md` beside the crate shows a write's path).
//!
//! The thread alone decides: it checks each write's expectation against its index of current keys, commits all that
//! is queued in one transaction, tells the watches, then answers. Reads have a connection of their own.

mod hub;
mod index;
mod lock;
mod log;
mod open;
mod read;
mod retention;
mod schema;
mod watch;
mod writer;

use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::oneshot;

use crate::{Batch, Entry, Error, Expect, Latest, Listing, Op, Result, Revision, Storage};
use hub::Hub;
pub use open::OpenError;
use read::Reader;
pub use retention::Retention;
use writer::Request;

/// Cheap to clone. The files are let go when [`Self::close`] returns or the last clone is dropped.
#[derive(Clone)]
pub struct Embedded(Arc<Handle>);

struct Handle {
    queue: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reader: Reader,
    hub: Arc<Hub>,
}

impl Embedded {
    /// Opens or makes the store in `dir`; fails when another process has it open.
    pub async fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, Retention::default()).await
    }

    /// As [`Self::open`], with another rule for how much history stays.
    pub async fn open_with(dir: &Path, retention: Retention) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        blocking(move || open::directory(&dir, retention)).await.unwrap_or(Err(OpenError::Interrupted))
    }

    /// A store that is gone when dropped.
    pub async fn in_memory() -> Result<Self, OpenError> {
        blocking(|| open::memory(Retention::default())).await.unwrap_or(Err(OpenError::Interrupted))
    }

    /// Commits what is queued, answers it, and lets go of the files. Later calls fail with [`Error::Closed`].
    pub async fn close(&self) {
        let handle = self.0.clone();
        let _ = blocking(move || handle.shut()).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        {
            let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = queue.as_ref().ok_or(Error::Closed)?;
            queue.send(request(answer)).map_err(|_| Error::Closed)?;
        }
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn read<T: Send + 'static>(&self, query: impl FnOnce(&Reader) -> Result<T> + Send + 'static) -> Result<T> {
        let reader = self.0.reader.clone();
        blocking(move || query(&reader)).await.unwrap_or(Err(Error::Closed))
    }
}

/// `None` when the runtime is shutting down.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

impl Handle {
    /// The thread serves what is queued before it sees the queue's end.
    fn shut(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.reader.close();
        if let Some(thread) = thread {
            // A panic in the thread has been reported by the panic hook and has failed its callers.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shut();
    }
}

#[async_trait::async_trait]
impl Storage for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let key: Arc<str> = key.into();
        self.read(move |reader| reader.get(key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Listing> {
        let (prefix, start_after) = (prefix.to_owned(), start_after.map(str::to_owned));
        let hub = self.0.hub.clone();
        self.read(move |reader| reader.list(&hub, &prefix, start_after.as_deref(), limit, at)).await
    }

    async fn write(&self, key: &str, expect: Expect, op: Op) -> Result<Revision> {
        let key: Arc<str> = key.into();
        self.ask(|answer| Request::Write { key, expect, op, answer }).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<BoxStream<'static, Result<Batch>>> {
        watch::start(self.0.hub.clone(), self.0.reader.clone(), prefix, after).await
    }

    async fn latest(&self, prefix: &str) -> Result<Latest> {
        self.0.hub.latest(prefix)
    }

    async fn compact(&self, before: Revision) -> Result<()> {
        self.ask(|answer| Request::Compact { before, answer }).await
    }
}

fn engine(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Error::Full { operation },
        _ => Error::Engine { operation, source: Box::new(error) },
    }
}

/// A value that owns no more memory than it needs: it stays in caches.
fn exact(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

#[cfg(test)]
mod tests;
