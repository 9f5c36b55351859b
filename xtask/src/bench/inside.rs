//! Async work in a cluster's network namespace, where a client of the node would be.

use std::path::Path;

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use harness::Namespace;
use tokio::runtime::Builder;

/// Runs `work` to its end on a runtime whose threads all live in the namespace: a thread inherits it from its parent.
pub(super) fn inside<T, F>(namespace: &Namespace, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    on(namespace, Builder::new_multi_thread().worker_threads(2), work)
}

/// As [`inside`] for latencies of a fraction of a millisecond: a client that hands its work from thread to thread would
/// measure that too. `work` must not block.
pub(super) fn inside_on_one_thread<T, F>(namespace: &Namespace, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    on(namespace, &mut Builder::new_current_thread(), work)
}

fn on<T, F>(namespace: &Namespace, runtime: &mut Builder, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    let netns = NetNs::open(&Path::new("/run/netns").join(&namespace.name))?;
    netns.run(|| runtime.enable_all().build().context("starting a runtime in the namespace")?.block_on(work()))?
}
