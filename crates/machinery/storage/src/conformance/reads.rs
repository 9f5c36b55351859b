//! Lists now and in the past, and compaction.

use super::{create, delete, put};
use crate::{Error, Expect, Listing, Revision, Storage};

fn keys(listing: &Listing) -> Vec<&str> {
    listing.entries.iter().map(|entry| &*entry.key).collect()
}

pub(super) async fn listings_are_ordered_paged_and_stay_in_their_prefix<S: Storage>(store: S) {
    for key in ["/p/ns/c", "/p/ns/a", "/q/x", "/p/ns/b", "/p/ns-2/a", "/p/ns/é", "/p0"] {
        create(&store, key).await;
    }
    let all = store.list("/p/ns/", None, 0, None).await.unwrap();
    assert_eq!(keys(&all), ["/p/ns/a", "/p/ns/b", "/p/ns/c", "/p/ns/é"]);
    assert_eq!(all.revision, store.revision().await.unwrap());
    assert_eq!(keys(&store.list("/p/", None, 1, None).await.unwrap()), ["/p/ns-2/a"]);
    assert_eq!(store.list("", None, 0, None).await.unwrap().entries.len(), 7);

    let first = store.list("/p/ns/", None, 2, None).await.unwrap();
    assert_eq!((keys(&first), first.more), (vec!["/p/ns/a", "/p/ns/b"], true));
    create(&store, "/p/ns/bb").await;
    let second = store.list("/p/ns/", Some("/p/ns/b"), 2, Some(first.revision)).await.unwrap();
    assert_eq!((keys(&second), second.more), (vec!["/p/ns/c", "/p/ns/é"], false));
    assert_eq!(second.revision, first.revision);
}

pub(super) async fn an_older_revision_lists_as_it_was<S: Storage>(store: S) {
    let a = create(&store, "/a").await;
    let b = create(&store, "/b").await;
    let changed = put(&store, "/a", Expect::At(a), "changed").await;
    let gone = delete(&store, "/b", b).await;

    let at = async |revision| store.list("/", None, 0, Some(revision)).await.unwrap();
    assert_eq!(keys(&at(a).await), ["/a"]);
    let before = at(b).await;
    assert_eq!(keys(&before), ["/a", "/b"]);
    assert_eq!((&before.entries[0].value[..], before.entries[0].modified), (&b"/a"[..], a));
    let after = at(changed).await;
    assert_eq!(keys(&after), ["/a", "/b"]);
    assert_eq!((&after.entries[0].value[..], after.entries[0].created), (&b"changed"[..], a));
    assert_eq!(keys(&at(gone).await), ["/a"]);
}

pub(super) async fn compaction_forgets_history_and_keeps_the_present<S: Storage>(store: S) {
    let a = create(&store, "/a").await;
    let b = create(&store, "/b").await;
    let gone = delete(&store, "/b", b).await;
    let kept = create(&store, "/c").await;
    let newest = put(&store, "/a", Expect::At(a), "changed").await;
    store.compact(kept).await.unwrap();
    store.compact(b).await.unwrap(); // already further

    let compacted = |result: Result<(), Error>| match result {
        Err(Error::Compacted { asked, .. }) => asked,
        other => panic!("expected compacted, got {other:?}"),
    };
    assert_eq!(compacted(store.list("/", None, 0, Some(gone)).await.map(drop)), gone);
    assert_eq!(compacted(store.watch("/", gone).await.map(drop)), gone);
    let oldest = store.list("/", None, 0, Some(kept)).await.unwrap();
    assert_eq!(keys(&oldest), ["/a", "/c"]);
    assert_eq!(oldest.entries[0].value, "/a", "superseded only after the compacted revision");
    assert!(store.watch("/", kept).await.is_ok());

    store.compact(newest).await.unwrap();
    let entry = store.get("/a").await.unwrap().expect("there");
    assert_eq!((&entry.value[..], entry.created, entry.modified), (&b"changed"[..], a, newest));
    assert_eq!(create(&store, "/b").await, Revision(newest.0 + 1));
}

pub(super) async fn revisions_not_reached_are_in_the_future<S: Storage>(store: S) {
    let newest = create(&store, "/a").await;
    let next = Revision(newest.0 + 1);
    let future =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::Future { asked, .. }) if asked == next));
    future(store.list("/", None, 0, Some(next)).await.map(drop));
    future(store.watch("/", next).await.map(drop));
    future(store.compact(next).await);
}
