//! Watches: order, no gaps, progress.

use std::sync::Arc;

use futures::future::join_all;

use super::{create, delete, put, told, until};
use crate::{Expect, Latest, Op, Revision, Storage};

pub(super) async fn a_watch_replays_then_follows_its_prefix<S: Storage>(store: S) {
    let a = create(&store, "/p/a").await;
    create(&store, "/q/a").await;
    let changed = put(&store, "/p/a", Expect::At(a), "new").await;
    let mut all = store.watch("/p/", Revision(1)).await.unwrap();
    let mut late = store.watch("/p/", a).await.unwrap();
    let gone = delete(&store, "/p/a", changed).await;
    create(&store, "/q/b").await;
    let again = create(&store, "/p/a").await;

    let story: Vec<String> = until(&mut all, again).await.iter().map(told).collect();
    assert_eq!(story, ["C2 /p/a /p/a", "U4 /p/a new", "D5 /p/a last", "C7 /p/a /p/a"]);
    assert_eq!(gone, Revision(5));
    let rest: Vec<String> = until(&mut late, again).await.iter().map(told).collect();
    assert_eq!(rest, story[1..]);
}

pub(super) async fn concurrent_writes_reach_every_watch_in_one_order<S: Storage>(store: S) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 40;
    let store = Arc::new(store);
    let write = async |writer: u64| {
        let key = format!("/w/{writer}");
        let mut at = create(&*store, &key).await;
        for n in 1..EACH {
            at = put(&*store, &key, Expect::At(at), &n.to_string()).await;
        }
    };
    // Starts in the middle of the writes, from their beginning.
    let last = Revision(1 + WRITERS * EACH);
    let watch = async |after: Revision| {
        until(&mut store.watch("/w/", Revision(1)).await.unwrap(), after).await;
        let mut watch = store.watch("/w/", Revision(1)).await.unwrap();
        until(&mut watch, last).await
    };
    let (_, seen) =
        futures::join!(join_all((0..WRITERS).map(&write)), join_all((1..=4).map(|n| watch(Revision(n * 20)))));
    for changes in &seen {
        let revisions: Vec<u64> = changes.iter().map(|change| change.revision.0).collect();
        assert_eq!(revisions, (2..=last.0).collect::<Vec<_>>(), "every revision once, in order");
        assert_eq!(changes, &seen[0]);
    }
}

pub(super) async fn a_watch_reaches_the_newest_change_of_its_prefix<S: Storage>(store: S) {
    let first = create(&store, "/p/a").await;
    create(&store, "/q/a").await;
    let listed = store.list("/p/", None, 0, None).await.unwrap().revision;
    let mut watch = store.watch("/p/", listed).await.unwrap();
    let other = create(&store, "/q/b").await;
    let Latest { revision, changed } = store.latest("/p/").await.unwrap();
    assert_eq!(revision, other);
    assert!(first <= changed && changed <= revision);
    assert_eq!(until(&mut watch, changed).await, [], "progress without a change");

    let second = create(&store, "/p/b").await;
    let Latest { revision, changed } = store.latest("/p/").await.unwrap();
    assert_eq!((revision, changed), (second, second));
    assert_eq!(until(&mut watch, changed).await.len(), 1);
}

pub(super) async fn a_slow_watch_misses_nothing_that_is_kept<S: Storage>(store: S) {
    const WRITES: u64 = 6000;
    let mut watch = store.watch("/w/", Revision(1)).await.unwrap();
    for chunk in (0..WRITES).collect::<Vec<_>>().chunks(500) {
        let keys: Vec<String> = chunk.iter().map(|n| format!("/w/{n}")).collect();
        let writes = keys.iter().map(|key| store.write(key, Expect::Absent, Op::Put("x".into())));
        assert!(join_all(writes).await.iter().all(Result::is_ok));
    }
    let changes = until(&mut watch, Revision(1 + WRITES)).await;
    assert!(changes.iter().map(|change| change.revision.0).eq(2..=1 + WRITES));
}
