//! Connections that wait for the next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base_tasks::Tasks;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::Body;

/// Go's `IdleConnTimeout`.
const IDLE: Duration = Duration::from_secs(90);
/// client-go's `MaxIdleConnsPerHost`.
const MOST: usize = 25;

type Connection = SendRequest<Body>;

#[derive(Default)]
struct Idle {
    /// The longest idle first.
    connections: Vec<(Instant, Connection)>,
    /// Whether a task sees to those that wait too long.
    swept: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Idle>>);

impl Pool {
    /// The one used last: the others may then grow old.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, connection)) = idle.connections.pop() {
            if connection.is_ready() && since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back whose answer has been read to the end; one that the server does not keep ends.
    pub(crate) async fn put_back(&self, mut connection: Connection, tasks: &Tasks) {
        if connection.ready().await.is_ok() {
            put(&self.0, connection, tasks);
        }
    }

    /// The same once the answer, which somebody else reads, has been read; one that is left unread ends.
    pub(crate) fn put_back_later(&self, mut connection: Connection, tasks: &Tasks) {
        let (pool, sweeper) = (Arc::downgrade(&self.0), tasks.clone());
        tasks.spawn("connection", async move {
            if connection.ready().await.is_ok()
                && let Some(pool) = pool.upgrade()
            {
                put(&pool, connection, &sweeper);
            }
        });
    }

    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).connections.len()
    }
}

fn put(pool: &Arc<Mutex<Idle>>, connection: Connection, tasks: &Tasks) {
    let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
    if idle.connections.len() >= MOST {
        return;
    }
    idle.connections.push((Instant::now(), connection));
    if std::mem::replace(&mut idle.swept, true) {
        return;
    }
    let pool = Arc::downgrade(pool);
    tasks.spawn("idle connections", async move {
        while let Some(pool) = pool.upgrade() {
            let Some(next) = sweep(&pool) else { return };
            drop(pool);
            tokio::time::sleep_until(next).await;
        }
    });
}

/// Lets go of what has waited too long; when to look again, if anything is left.
fn sweep(pool: &Mutex<Idle>) -> Option<Instant> {
    let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
    idle.connections.retain(|(since, connection)| !connection.is_closed() && since.elapsed() < IDLE);
    let next = idle.connections.first().map(|(since, _)| *since + IDLE);
    idle.swept = next.is_some();
    next
}
