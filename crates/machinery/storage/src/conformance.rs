//! What every back end must do, as one suite: each runs it in its tests with a maker of fresh, empty stores.
//!
//! Panics where the store misbehaves. Waits on the store's own events, with a bound that only a hang reaches.
#![allow(clippy::unwrap_used)] // a test, in a library only so that back ends elsewhere can run it

mod reads;
mod watches;
mod writes;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::{Batch, Change, Expect, Op, Result, Revision, Storage};

/// Only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn suite<S: Storage>(make: impl AsyncFn() -> S) {
    writes::an_empty_store_is_at_revision_one(make().await).await;
    writes::revisions_grow_by_one_and_expectations_hold(make().await).await;
    writes::one_of_many_racing_writers_wins(make().await).await;
    writes::a_deleted_key_can_be_made_again(make().await).await;
    reads::listings_are_ordered_paged_and_stay_in_their_prefix(make().await).await;
    reads::an_older_revision_lists_as_it_was(make().await).await;
    reads::compaction_forgets_history_and_keeps_the_present(make().await).await;
    reads::revisions_not_reached_are_in_the_future(make().await).await;
    watches::a_watch_replays_then_follows_its_prefix(make().await).await;
    watches::concurrent_writes_reach_every_watch_in_one_order(make().await).await;
    watches::a_watch_reaches_the_newest_change_of_its_prefix(make().await).await;
    watches::a_slow_watch_misses_nothing_that_is_kept(make().await).await;
}

/// Puts `value` and answers with its revision.
async fn put(store: &impl Storage, key: &str, expect: Expect, value: &str) -> Revision {
    store.write(key, expect, Op::Put(Bytes::copy_from_slice(value.as_bytes()))).await.unwrap()
}

async fn create(store: &impl Storage, key: &str) -> Revision {
    put(store, key, Expect::Absent, key).await
}

async fn delete(store: &impl Storage, key: &str, at: Revision) -> Revision {
    store.write(key, Expect::At(at), Op::Delete { last: Bytes::from_static(b"last") }).await.unwrap()
}

/// What can be told apart of a change: key, revision, kind's initial, value.
fn told(change: &Change) -> String {
    let kind = format!("{:?}", change.kind);
    format!("{}{} {} {}", &kind[..1], change.revision, change.key, String::from_utf8_lossy(&change.value))
}

/// Reads changes until `last` is reached.
async fn until(watch: &mut BoxStream<'static, Result<Batch>>, last: Revision) -> Vec<Change> {
    let mut changes = Vec::new();
    let collect = async {
        loop {
            let batch = watch.next().await.expect("the watch goes on").unwrap();
            assert!(batch.changes.iter().all(|change| change.revision <= batch.revision));
            changes.extend(batch.changes);
            if batch.revision >= last {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, collect).await.expect("the watch reaches the revision");
    changes
}
