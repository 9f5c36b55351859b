//! Being told to stop, and stopping.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use base_tasks::{Shutdown, Tasks};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;

/// What parts may take to end once told to.
const DRAIN: Duration = Duration::from_secs(15);

/// SIGTERM and SIGINT.
pub struct Signals(Mutex<(Signal, Signal)>);

impl Signals {
    /// From this moment on: a signal during the start is a clean end, too.
    pub fn listen() -> Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        Ok(Self(Mutex::new((terminate, interrupt))))
    }

    async fn come(&self) {
        let mut signals = self.0.lock().await;
        let (terminate, interrupt) = &mut *signals;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping; the pods go on"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping; the pods go on"),
        }
    }

    /// What `work` ends with; `None` when a signal comes first.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.come() => None,
            result = work => Some(result),
        }
    }
}

/// Waits for a signal, or for a part that cannot go on, then ends all parts; `last` is the very last step.
pub async fn until_told(tasks: Tasks, signals: Signals, last: impl Future<Output = ()>) -> Result<()> {
    let failed = signals.or(tasks.cancelled()).await.is_some();
    if let Shutdown::Abandoned(count) = tasks.shutdown(DRAIN).await {
        tracing::warn!(count, "tasks did not end in time");
    }
    last.await;
    if failed {
        bail!("a part of the process failed; see the log");
    }
    Ok(())
}
