//! Revisions and compare-and-swap.

use futures::future::join_all;

use super::{create, delete, put};
use crate::{Error, Expect, Op, Result, Revision, Storage};

pub(super) async fn an_empty_store_is_at_revision_one<S: Storage>(store: S) {
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    let listing = store.list("/", None, 0, None).await.unwrap();
    assert_eq!((listing.entries.len(), listing.revision, listing.more), (0, Revision(1), false));
    assert_eq!(store.get("/absent").await.unwrap(), None);
}

pub(super) async fn revisions_grow_by_one_and_expectations_hold<S: Storage>(store: S) {
    let one = create(&store, "/a").await;
    assert_eq!(one, Revision(2));
    conflict(store.write("/a", Expect::Absent, Op::Put("x".into())).await, Some(one));
    conflict(store.write("/b", Expect::At(one), Op::Put("x".into())).await, None);
    conflict(store.write("/b", Expect::Absent, Op::Delete { last: "x".into() }).await, None);
    assert_eq!(store.revision().await.unwrap(), one, "a conflict makes no revision");

    let two = put(&store, "/a", Expect::At(one), "changed").await;
    assert_eq!(two, Revision(one.0 + 1));
    conflict(store.write("/a", Expect::At(one), Op::Put("x".into())).await, Some(two));
    conflict(store.write("/a", Expect::At(one), Op::Delete { last: "x".into() }).await, Some(two));

    let entry = store.get("/a").await.unwrap().expect("there");
    assert_eq!((&entry.value[..], entry.created, entry.modified), (&b"changed"[..], one, two));
}

pub(super) async fn one_of_many_racing_writers_wins<S: Storage>(store: S) {
    let mut at = create(&store, "/counter").await;
    for _ in 0..5 {
        let attempts = (0..16).map(|_| store.write("/counter", Expect::At(at), Op::Put("x".into())));
        let results = join_all(attempts).await;
        let won: Vec<Revision> = results.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won, [Revision(at.0 + 1)]);
        at = won[0];
    }
}

pub(super) async fn a_deleted_key_can_be_made_again<S: Storage>(store: S) {
    let made = create(&store, "/a").await;
    let gone = delete(&store, "/a", made).await;
    assert_eq!(store.get("/a").await.unwrap(), None);
    assert!(store.list("/", None, 0, None).await.unwrap().entries.is_empty());
    conflict(store.write("/a", Expect::At(gone), Op::Put("x".into())).await, None);
    let again = create(&store, "/a").await;
    let entry = store.get("/a").await.unwrap().expect("there");
    assert_eq!((entry.created, entry.modified), (again, again));
}

fn conflict(result: Result<Revision>, expected: Option<Revision>) {
    match result {
        Err(Error::Conflict { actual, .. }) => assert_eq!(actual, expected),
        other => panic!("expected a conflict, got {other:?}"),
    }
}
