//! Async work in a cluster's network namespace, where a client of the node would be.

use std::path::Path;

use anyhow::{Context, Result};
use base_sys::netns::NetNs;
use harness::Namespace;

/// Runs `work` to its end on a runtime whose threads all live in the namespace: a thread inherits it from its parent.
pub(super) fn inside<T, F>(namespace: &Namespace, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    let netns = NetNs::open(&Path::new("/run/netns").join(&namespace.name))?;
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting a runtime in the namespace")?;
        runtime.block_on(work())
    })?
}
