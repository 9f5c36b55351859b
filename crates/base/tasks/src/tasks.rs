//! One tree of tasks: cancelling a node cancels everything below it, and nothing outlives [`Tasks::shutdown`] unnoticed.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A node in the tree. Cheap to clone; clones are the same node.
#[derive(Clone)]
pub struct Tasks {
    name: Arc<str>,
    cancel: CancellationToken,
    /// Shared by the whole tree, so that the root awaits everything.
    tracker: TaskTracker,
    /// Cancelled when a task panics: the process must not go on half alive.
    root: CancellationToken,
    panicked: Arc<AtomicBool>,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Every task ended by itself.
    Clean,
    /// The deadline passed with this many tasks still running.
    Abandoned(usize),
}

impl Tasks {
    pub fn root(name: &str) -> Self {
        let cancel = CancellationToken::new();
        Self {
            name: name.into(),
            root: cancel.clone(),
            cancel,
            tracker: TaskTracker::new(),
            panicked: Arc::new(AtomicBool::new(false)),
        }
    }

    /// A node below this one: cancelled with it, or by itself.
    pub fn child(&self, name: &str) -> Self {
        Self { name: format!("{}/{name}", self.name).into(), cancel: self.cancel.child_token(), ..self.clone() }
    }

    /// Runs `task` until it ends or this node is cancelled, whichever is first: it is then dropped at its next
    /// await point. A task that must finish something watches [`Self::cancelled`] through [`Self::spawn_draining`].
    pub fn spawn<F>(&self, name: &str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(name, until(self.cancel.clone(), task.boxed()).boxed());
    }

    /// Runs `task` to its end; it is told of cancellation only by [`Self::cancelled`].
    pub fn spawn_draining<F>(&self, name: &str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(name, task.boxed());
    }

    /// One type of future for all tasks: the runtime's part of a task is compiled for each type.
    fn track(&self, name: &str, task: BoxFuture<'static, ()>) {
        let name = format!("{}/{name}", self.name);
        let (root, panicked) = (self.root.clone(), Arc::clone(&self.panicked));
        self.tracker.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = %name, "a task panicked; shutting down");
                panicked.store(true, Ordering::Release);
                root.cancel();
            }
        });
    }

    /// Resolves when this node is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        self.cancel.clone().cancelled_owned()
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Cancels this node and everything below it, without waiting.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Whether any task of the tree has panicked.
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Cancels this node and waits for the whole tree, at most until `deadline`.
    pub async fn shutdown(&self, deadline: Duration) -> Shutdown {
        self.cancel.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Shutdown::Clean,
            Err(_) => Shutdown::Abandoned(self.tracker.len()),
        }
    }
}

async fn until(cancel: CancellationToken, task: BoxFuture<'static, ()>) {
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = task => {}
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cancelling_a_child_leaves_its_siblings() {
        let root = Tasks::root("test");
        let (one, two) = (root.child("one"), root.child("two"));
        one.cancel();
        assert!(one.is_cancelled() && !two.is_cancelled() && !root.is_cancelled());
        root.cancel();
        assert!(two.is_cancelled());
    }

    #[tokio::test]
    async fn shutdown_waits_for_a_draining_task() {
        let root = Tasks::root("test");
        let (sent, received) = tokio::sync::oneshot::channel();
        let child = root.child("child");
        root.spawn_draining("drain", async move {
            child.cancelled().await;
            sent.send(()).expect("the test holds the receiver");
        });
        root.spawn("forever", std::future::pending());
        assert_eq!(root.shutdown(Duration::from_secs(5)).await, Shutdown::Clean);
        received.await.expect("the draining task ran to its end");
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_tells_what_it_left_behind() {
        let root = Tasks::root("test");
        root.spawn_draining("stuck", std::future::pending());
        assert_eq!(root.shutdown(Duration::from_secs(1)).await, Shutdown::Abandoned(1));
    }

    #[tokio::test]
    async fn a_panic_cancels_the_root() {
        let root = Tasks::root("test");
        root.child("deep").spawn("bad", async { panic!("on purpose") });
        root.cancelled().await;
        assert!(root.panicked());
    }
}
