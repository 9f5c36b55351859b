//! The loop that every controller runs: take a key, reconcile it, forget it or try again later.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use base_tasks::{Backoff, Tasks, WorkQueue};
use machinery_client::kube;
use machinery_client::{Change, Informer, Lagging, ObjectKey};

use crate::world::PodFacts;

/// Why a reconciliation must be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} failed")]
    Api {
        operation: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("waiting for the informer to catch up")]
    Lagging(#[from] Lagging),
}

/// Gives an API error its operation.
pub trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for kube::Result<T> {
    fn during(self, operation: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Api { operation, source: Box::new(source) })
    }
}

/// Whether the API answered with this code.
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// When to look again although nothing may have changed (a deadline that passes).
pub type Again = Option<Duration>;

pub fn queue<K: Clone + Eq + Hash + Send>() -> WorkQueue<K> {
    WorkQueue::new(Backoff { initial: Duration::from_millis(5), max: Duration::from_secs(30) })
}

/// Calls `keys` with every change of `informer`; it queues what the change concerns.
pub fn wake<P, F>(tasks: &Tasks, informer: &Informer<P>, keys: F)
where
    P: Send + Sync + 'static,
    F: Fn(&Change<P>) + Send + 'static,
{
    let mut changes = informer.subscribe();
    tasks.spawn("wake", async move {
        while let Some(change) = changes.recv().await {
            keys(&change);
        }
    });
}

/// Queues the controller of every pod that changes, where it is of `kind`; of an orphan, those that may adopt it.
pub fn wake_owners<F>(
    tasks: &Tasks,
    pods: &Informer<PodFacts>,
    queue: &WorkQueue<ObjectKey>,
    kind: &'static str,
    adopters: F,
) where
    F: Fn(&PodFacts) -> Vec<ObjectKey> + Send + 'static,
{
    let queue = queue.clone();
    wake(tasks, pods, move |change| {
        let pods: [Option<&PodFacts>; 2] = match change {
            Change::Applied { old, new, .. } => [old.as_deref(), Some(new)],
            Change::Deleted { old, .. } => [Some(old), None],
        };
        for pod in pods.into_iter().flatten() {
            match &pod.controller {
                Some(owner) if owner.kind == kind => {
                    queue.add(ObjectKey::new(pod.key.namespace.clone(), owner.name.clone()));
                }
                Some(_) => {}
                None => adopters(pod).into_iter().for_each(|key| queue.add(key)),
            }
        }
    });
}

/// Runs `workers` workers over `queue` once `ready` resolves.
pub fn run<K, R, F, Fut>(tasks: &Tasks, queue: &WorkQueue<K>, workers: usize, ready: R, reconcile: F)
where
    K: Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static,
    R: Future<Output = ()> + Send + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Again, Error>> + Send + 'static,
{
    let reconcile = Arc::new(reconcile);
    let (queue, tasks_inner) = (queue.clone(), tasks.clone());
    tasks.spawn("start", async move {
        ready.await;
        for _ in 0..workers {
            let (queue, reconcile) = (queue.clone(), Arc::clone(&reconcile));
            tasks_inner.spawn("worker", async move {
                while let Some(key) = queue.next().await {
                    match reconcile(key.clone()).await {
                        Ok(again) => {
                            queue.forget(&key);
                            if let Some(delay) = again {
                                queue.add_after(key.clone(), delay);
                            }
                        }
                        Err(error) => {
                            log(&key, &error);
                            queue.retry(key.clone());
                        }
                    }
                    queue.done(&key);
                }
            });
        }
    });
}

/// A conflict is how optimistic concurrency works and is only worth a debug line.
fn log<K: std::fmt::Debug>(key: &K, error: &Error) {
    let expected = match error {
        Error::Api { source, .. } => is_code(source, 409) || is_code(source, 404),
        Error::Lagging(_) => false,
    };
    let error = error as &dyn std::error::Error;
    if expected {
        tracing::debug!(?key, error, "reconciling again");
    } else {
        tracing::warn!(?key, error, "reconciling failed; trying again");
    }
}
