//! The task that keeps a cache in step with its store.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::shared::Shared;
use crate::{Batch, Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Until the store is closed. `changes` follow the list that `shared` was made from.
pub(super) async fn run(shared: Arc<Shared>, mut changes: BoxStream<'static, Result<Batch>>) {
    loop {
        match changes.next().await {
            Some(Ok(batch)) => shared.apply(batch),
            Some(Err(Error::Closed)) => break,
            Some(Err(error)) => {
                warn(&shared, &error, "watch of the store failed, listing again");
                let Some(again) = start_over(&shared).await else { break };
                changes = again;
            }
            None => {
                let Some(again) = start_over(&shared).await else { break };
                changes = again;
            }
        }
    }
    shared.close();
}

/// Lists and watches again, as often as it takes; `None` when the store is closed.
async fn start_over(shared: &Shared) -> Option<BoxStream<'static, Result<Batch>>> {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = async {
            shared.reload().await?;
            let from = shared.read().log.complete_after();
            shared.storage.watch(&shared.prefix, from).await
        };
        match attempt.await {
            Ok(changes) => return Some(changes),
            Err(Error::Closed) => return None,
            Err(error) => {
                warn(shared, &error, "cannot list the store, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn warn(shared: &Shared, error: &Error, what: &'static str) {
    tracing::warn!(prefix = shared.prefix, error = error as &dyn std::error::Error, "{what}");
}
