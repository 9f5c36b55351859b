#![allow(clippy::unwrap_used)]
mod model;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::Notify;

use super::*;
use crate::embedded::Embedded;
use crate::{Batch, Entry, Expect, Latest, Listing, Op};

const PODS: &str = "/registry/pods/";

async fn store() -> Arc<Embedded> {
    Arc::new(Embedded::in_memory().await.unwrap())
}

fn extract() -> Arc<Extract> {
    Arc::new(|json: &Bytes| {
        let value: serde_json::Value = serde_json::from_slice(json)?;
        let name = value["metadata"]["name"].as_str().ok_or("no name")?;
        Ok((Meta { name: name.into(), ..Meta::default() }, json.clone()))
    })
}

async fn pods(store: &Arc<Embedded>) -> Cache {
    Cache::start(store.clone(), PODS, extract()).await.unwrap()
}

fn body(text: &str) -> Bytes {
    format!(r#"{{"metadata":{{"name":"{text}"}}}}"#).into()
}

async fn put(store: &Embedded, key: &str, expect: Expect, name: &str) -> Revision {
    store.write(key, expect, Op::Put(body(name))).await.unwrap()
}

async fn create(store: &Embedded, key: &str) -> Revision {
    put(store, key, Expect::Absent, key.rsplit('/').next().unwrap()).await
}

fn names(objects: &[Arc<Object>]) -> Vec<&str> {
    objects.iter().map(|object| &*object.meta.name).collect()
}

async fn next(watcher: &mut Watcher) -> Result<Arc<Event>> {
    tokio::time::timeout(Duration::from_secs(30), watcher.next()).await.expect("an event").expect("a stream")
}

fn all(at: At) -> Query<'static> {
    Query { prefix: PODS, start_after: None, limit: 0, at }
}

#[tokio::test]
async fn a_read_sees_every_write_acknowledged_before_it() {
    let store = store().await;
    let cache = pods(&store).await;
    for n in 0..50 {
        let key = format!("{PODS}default/p{n:02}");
        let revision = create(&store, &key).await;
        let read = if n % 2 == 0 { Freshness::Latest } else { Freshness::NotOlderThan(revision) };
        let object = cache.get(&key, read).await.unwrap().expect("there");
        assert_eq!(object.revision, revision);
        create(&store, &format!("/registry/other/{n}")).await;
    }
    let page = cache.list(all(At::Fresh(Freshness::Latest)), |_| true).await.unwrap();
    assert_eq!(page.items.len(), 50);
    assert_eq!(page.revision, store.revision().await.unwrap(), "a list is as new as the whole store");
}

#[tokio::test]
async fn a_revision_that_the_store_has_not_reached_is_an_error() {
    let store = store().await;
    let cache = pods(&store).await;
    let asked = Revision(create(&store, "/registry/other/a").await.0 + 1);
    let future = |error: Error| assert!(matches!(error, Error::Future { asked: a, .. } if a == asked), "{error}");
    future(cache.wait(Freshness::NotOlderThan(asked)).await.unwrap_err());
    future(cache.list(all(At::Exact(asked)), |_| true).await.unwrap_err());
    future(cache.watch(Start::After(asked), PODS).await.err().unwrap());
}

#[tokio::test]
async fn pages_continue_at_the_revision_of_the_first() {
    let store = store().await;
    for name in ["a", "b", "c", "d", "e"] {
        create(&store, &format!("{PODS}default/{name}")).await;
    }
    let cache = pods(&store).await;
    let query = Query { limit: 2, ..all(At::Fresh(Freshness::Latest)) };
    let first = cache.list(query, |_| true).await.unwrap();
    assert_eq!((names(&first.items), first.more, first.remaining), (vec!["a", "b"], true, Some(3)));

    let c = cache.get("/registry/pods/default/c", Freshness::Any).await.unwrap().unwrap().revision;
    put(&store, "/registry/pods/default/c", Expect::At(c), "changed").await;
    create(&store, "/registry/pods/default/bb").await;
    let at = At::Exact(first.revision);
    let rest = Query { start_after: Some(&first.items[1].key), limit: 2, ..all(at) };
    let second = cache.list(rest, |_| true).await.unwrap();
    assert_eq!((names(&second.items), second.more, second.remaining), (vec!["c", "d"], true, Some(1)));
    assert_eq!(second.revision, first.revision);
    let filtered = cache.list(Query { start_after: None, ..rest }, |object| *object.meta.name <= *"b").await.unwrap();
    assert_eq!((names(&filtered.items), filtered.more), (vec!["a", "b"], false));
}

#[tokio::test]
async fn a_namespace_does_not_see_its_neighbour() {
    let store = store().await;
    for key in ["ns/a", "ns-2/b", "n/c"] {
        create(&store, &format!("{PODS}{key}")).await;
    }
    let cache = pods(&store).await;
    let prefix = format!("{PODS}ns/");
    let query = Query { prefix: &prefix, ..all(At::Fresh(Freshness::Any)) };
    assert_eq!(names(&cache.list(query, |_| true).await.unwrap().items), ["a"]);
    let mut watcher = cache.watch(Start::Initial(Freshness::Any), &prefix).await.unwrap();
    assert_eq!(names(&watcher.take_initial()), ["a"]);
    create(&store, &format!("{PODS}ns-2/x")).await;
    create(&store, &format!("{PODS}ns/y")).await;
    assert_eq!(&*next(&mut watcher).await.unwrap().object.meta.name, "y");
}

#[tokio::test]
async fn events_tell_what_was_and_are_shared() {
    let store = store().await;
    let cache = pods(&store).await;
    let mut one = cache.watch(Start::Now, PODS).await.unwrap();
    let mut two = cache.watch(Start::After(Revision(1)), PODS).await.unwrap();
    let key = "/registry/pods/default/a";
    let made = create(&store, key).await;
    let changed = put(&store, key, Expect::At(made), "new").await;
    let gone = store.write(key, Expect::At(changed), Op::Delete { last: body("last") }).await.unwrap();

    let mut story = Vec::new();
    for _ in 0..3 {
        let event = next(&mut one).await.unwrap();
        assert!(Arc::ptr_eq(&event, &next(&mut two).await.unwrap()));
        let before = event.previous.as_ref().map(|object| object.meta.name.to_string());
        story.push((event.kind, event.revision(), event.object.meta.name.to_string(), before));
    }
    let text = |name: &str| Some(name.to_owned());
    assert_eq!(
        story,
        [
            (EventKind::Created, made, "a".into(), None),
            (EventKind::Updated, changed, "new".into(), text("a")),
            (EventKind::Deleted, gone, "last".into(), text("new")),
        ]
    );
    assert_eq!(one.progress(), gone);
}

#[tokio::test]
async fn progress_passes_writes_to_other_prefixes() {
    let store = store().await;
    let cache = pods(&store).await;
    let mut watcher = cache.watch(Start::Now, PODS).await.unwrap();
    let other = create(&store, "/registry/other/a").await;
    assert!(watcher.progress() < other);
    assert_eq!(cache.wait(Freshness::Latest).await.unwrap(), other);
    assert_eq!(watcher.progress(), other);
    create(&store, "/registry/pods/default/a").await;
    cache.wait(Freshness::Latest).await.unwrap();
    assert_eq!(watcher.progress(), other, "not past an event that it has not been given");
}

#[tokio::test]
async fn who_falls_off_the_log_must_list_again() {
    let store = store().await;
    let cache = Cache::start_with(store.clone(), PODS, extract(), Keep { events: 4, ..Keep::default() }).await.unwrap();
    let mut slow = cache.watch(Start::Now, PODS).await.unwrap();
    let mut last = Revision(1);
    for n in 0..6 {
        last = create(&store, &format!("{PODS}default/{n}")).await;
    }
    cache.wait(Freshness::NotOlderThan(last)).await.unwrap();
    assert!(matches!(next(&mut slow).await, Err(Error::Compacted { .. })));
    assert!(slow.next().await.is_none());
    assert!(matches!(cache.watch(Start::After(Revision(2)), PODS).await.err(), Some(Error::Compacted { .. })));
    let mut kept = cache.watch(Start::After(Revision(last.0 - 1)), PODS).await.unwrap();
    assert_eq!(next(&mut kept).await.unwrap().revision(), last);

    let older = cache.list(all(At::Exact(Revision(2))), |_| true).await.unwrap();
    assert_eq!(names(&older.items), ["0"], "a list further back comes from the store");
    store.compact(last).await.unwrap();
    let gone = cache.list(all(At::Exact(Revision(2))), |_| true).await;
    assert!(matches!(gone, Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn an_unreadable_object_is_left_out() {
    let store = store().await;
    let (good, bad) = ("/registry/pods/default/a", "/registry/pods/default/b");
    store.write(bad, Expect::Absent, Op::Put("not json".into())).await.unwrap();
    let at = create(&store, good).await;
    let cache = pods(&store).await;
    let mut watcher = cache.watch(Start::Now, PODS).await.unwrap();
    assert_eq!(names(&cache.list(all(At::Fresh(Freshness::Any)), |_| true).await.unwrap().items), ["a"]);
    let revision = store.write(good, Expect::At(at), Op::Put("[]".into())).await.unwrap();
    let event = next(&mut watcher).await.unwrap();
    assert_eq!((event.kind, event.revision()), (EventKind::Deleted, revision));
    assert!(cache.get(good, Freshness::Latest).await.unwrap().is_none());
}

#[tokio::test]
async fn watchers_end_with_the_cache_and_with_the_store() {
    let store = store().await;
    let cache = pods(&store).await;
    let mut watcher = cache.watch(Start::Now, PODS).await.unwrap();
    drop(cache);
    assert!(matches!(next(&mut watcher).await, Err(Error::Closed)));

    let cache = pods(&store).await;
    let mut watcher = cache.watch(Start::Now, PODS).await.unwrap();
    store.close().await;
    assert!(matches!(next(&mut watcher).await, Err(Error::Closed)));
    assert!(matches!(cache.get("/a", Freshness::Latest).await, Err(Error::Closed)));
}

/// A store whose watches break when told to, as those of a remote one do.
struct Breaking {
    inner: Arc<Embedded>,
    break_now: Arc<Notify>,
    refuse_list: AtomicBool,
}

#[async_trait::async_trait]
impl Storage for Breaking {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.get(key).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize, at: Option<Revision>) -> Result<Listing> {
        if self.refuse_list.swap(false, Ordering::SeqCst) {
            return Err(Error::Engine { operation: "list", source: "unreachable".into() });
        }
        self.inner.list(prefix, after, limit, at).await
    }
    async fn write(&self, key: &str, expect: Expect, op: Op) -> Result<Revision> {
        self.inner.write(key, expect, op).await
    }
    async fn watch(&self, prefix: &str, after: Revision) -> Result<BoxStream<'static, Result<Batch>>> {
        let break_now = self.break_now.clone();
        let broken = futures::stream::once(async move {
            break_now.notified().await;
            Err(Error::Engine { operation: "watch", source: "connection reset".into() })
        });
        // What is written after the break is not seen by this watch.
        let mut ended = false;
        let both =
            futures::stream::select_with_strategy(broken, self.inner.watch(prefix, after).await?, |(): &mut ()| {
                futures::stream::PollNext::Left
            });
        let until_broken = both.take_while(move |item| {
            let go_on = !ended;
            ended = item.is_err();
            std::future::ready(go_on)
        });
        Ok(until_broken.boxed())
    }
    async fn latest(&self, prefix: &str) -> Result<Latest> {
        self.inner.latest(prefix).await
    }
    async fn compact(&self, before: Revision) -> Result<()> {
        self.inner.compact(before).await
    }
}

#[tokio::test]
async fn after_a_broken_watch_the_cache_lists_again_and_watchers_start_over() {
    let inner = store().await;
    let store =
        Arc::new(Breaking { inner: inner.clone(), break_now: Arc::default(), refuse_list: AtomicBool::new(false) });
    let a = create(&inner, "/registry/pods/default/a").await;
    let cache = Cache::start(store.clone(), PODS, extract()).await.unwrap();
    let mut watcher = cache.watch(Start::After(a), PODS).await.unwrap();
    store.refuse_list.store(true, Ordering::SeqCst);
    store.break_now.notify_one();
    let b = create(&inner, "/registry/pods/default/b").await;
    let page = cache.list(all(At::Fresh(Freshness::NotOlderThan(b))), |_| true).await.unwrap();
    assert_eq!(names(&page.items), ["a", "b"]);
    assert!(matches!(next(&mut watcher).await, Err(Error::Compacted { .. })));

    let mut watcher = cache.watch(Start::After(page.revision), PODS).await.unwrap();
    let c = create(&inner, "/registry/pods/default/c").await;
    assert_eq!(next(&mut watcher).await.unwrap().revision(), c, "the cache follows again");
}
