use std::time::Duration;

use base_meta::Reason;
use base_meta::selector::{FieldSelector, LabelSelector};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use machinery_registry::request::VersionMatch;
use machinery_registry::resource::WatchEvent;
use machinery_registry::{DeleteOptions, ListOptions, Resource};
use machinery_storage::Revision;
use serde_json::json;

use crate::widget::{Setup, merge, setup, widget};

async fn watch(setup: &Setup, options: ListOptions) -> BoxStream<'static, WatchEvent> {
    setup.registry.watch(&setup.ctx, &options).await.unwrap()
}

/// The next event as `ADDED name`, and the revision it carries.
async fn next(stream: &mut BoxStream<'static, WatchEvent>) -> (String, u64) {
    match stream.next().await.expect("the stream goes on") {
        WatchEvent::Added(object) => (format!("ADDED {}", object.meta.name), object.revision.0),
        WatchEvent::Modified(object) => (format!("MODIFIED {}", object.meta.name), object.revision.0),
        WatchEvent::Deleted(object) => (format!("DELETED {}", object.meta.name), object.revision.0),
        WatchEvent::Bookmark { revision, initial_events_end: true } => ("END".into(), revision.0),
        WatchEvent::Bookmark { revision, .. } => ("BOOKMARK".into(), revision.0),
        WatchEvent::Error(status) => (format!("ERROR {}", status.code), 0),
    }
}

async fn expect(stream: &mut BoxStream<'static, WatchEvent>, events: &[&str]) {
    for event in events {
        assert_eq!(next(stream).await.0, *event);
    }
}

async fn paint(setup: &Setup, name: &str, color: &str) {
    setup.patch(name, merge(json!({"spec": {"color": color}}))).await.unwrap();
}

#[tokio::test]
async fn a_watch_without_a_version_announces_what_is_and_follows() {
    let setup = setup().await;
    setup.create(widget("a")).await;
    let mut stream = watch(&setup, ListOptions::default()).await;
    setup.create(widget("b")).await;
    paint(&setup, "a", "blue").await;
    setup.registry.delete(&setup.ctx, "b", DeleteOptions::default()).await.unwrap();
    expect(&mut stream, &["ADDED a", "ADDED b", "MODIFIED a"]).await;
    assert_eq!(next(&mut stream).await, ("DELETED b".into(), setup.revision().await));
}

#[tokio::test]
async fn a_watch_from_a_version_replays_from_there() {
    let setup = setup().await;
    setup.create(widget("a")).await;
    let then = setup.revision().await.to_string();
    setup.create(widget("b")).await;
    let mut stream = watch(&setup, ListOptions { resource_version: then, ..ListOptions::default() }).await;
    expect(&mut stream, &["ADDED b"]).await;
}

#[tokio::test]
async fn objects_enter_and_leave_a_selector() {
    let setup = setup().await;
    let fields = FieldSelector::parse("spec.color=blue").unwrap();
    let mut by_field = watch(&setup, ListOptions { fields, ..ListOptions::default() }).await;
    let labels = LabelSelector::parse("app=a").unwrap();
    let mut by_label = watch(&setup, ListOptions { labels, ..ListOptions::default() }).await;
    setup.create(widget("a")).await;
    setup.create(widget("b")).await;
    paint(&setup, "a", "blue").await;
    setup.patch("a", merge(json!({"metadata": {"labels": {"x": "y"}}}))).await.unwrap();
    paint(&setup, "a", "red").await;
    let left = setup.revision().await;
    setup.patch("a", merge(json!({"metadata": {"labels": {"app": "other"}}}))).await.unwrap();

    expect(&mut by_field, &["ADDED a", "MODIFIED a"]).await;
    let Some(WatchEvent::Deleted(last)) = by_field.next().await else { panic!("it left the selector") };
    assert_eq!(last.revision.0, left);
    assert_eq!(last.to_value().unwrap()["spec"]["color"], "blue");
    expect(&mut by_label, &["ADDED a", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"]).await;
}

#[tokio::test]
async fn one_objects_watch_is_of_that_object() {
    let setup = setup().await;
    setup.create(widget("a")).await;
    setup.create(widget("b")).await;
    let one = || ListOptions { fields: FieldSelector::parse("metadata.name=a").unwrap(), ..ListOptions::default() };
    let mut stream = watch(&setup, one()).await;
    paint(&setup, "b", "blue").await;
    paint(&setup, "a", "blue").await;
    setup.registry.delete(&setup.ctx, "a", DeleteOptions::default()).await.unwrap();
    expect(&mut stream, &["ADDED a", "MODIFIED a", "DELETED a"]).await;
    let mut absent = watch(&setup, one()).await;
    setup.create(widget("a")).await;
    expect(&mut absent, &["ADDED a"]).await;
}

#[tokio::test]
async fn initial_events_end_in_a_bookmark() {
    let setup = setup().await;
    setup.create(widget("a")).await;
    let options = |initial| ListOptions {
        send_initial_events: Some(initial),
        version_match: Some(VersionMatch::NotOlderThan),
        bookmarks: true,
        ..ListOptions::default()
    };
    let mut stream = watch(&setup, options(true)).await;
    expect(&mut stream, &["ADDED a"]).await;
    assert_eq!(next(&mut stream).await, ("END".into(), setup.revision().await));
    let mut quiet = watch(&setup, options(false)).await;
    setup.create(widget("b")).await;
    expect(&mut quiet, &["ADDED b"]).await;

    for options in [
        ListOptions { version_match: None, ..options(true) },
        ListOptions { bookmarks: false, ..options(true) },
        ListOptions { send_initial_events: None, ..options(true) },
    ] {
        let Err(error) = setup.registry.watch(&setup.ctx, &options).await else { panic!("{options:?}") };
        assert_eq!(error.reason, Reason::Invalid);
    }
}

#[tokio::test]
async fn a_forgotten_version_is_gone() {
    let setup = setup().await;
    setup.create(widget("a")).await;
    let then = setup.revision().await.to_string();
    setup.create(widget("b")).await;
    setup.create(widget("c")).await;
    let now = setup.revision().await;
    setup.storage.compact(Revision(now)).await.unwrap();
    let mut stream =
        watch(&setup.again().await, ListOptions { resource_version: then, ..ListOptions::default() }).await;
    expect(&mut stream, &["ERROR 410"]).await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn the_timeout_ends_the_stream_with_a_last_bookmark() {
    let setup = setup().await;
    let timeout = Some(Duration::from_millis(50));
    let mut stream = watch(&setup, ListOptions { timeout, bookmarks: true, ..ListOptions::default() }).await;
    // A write to another kind moves the store, and so the bookmark.
    let op = machinery_storage::Op::Put("{}".into());
    let moved = setup.storage.write("/registry/others/x", machinery_storage::Expect::Absent, op).await.unwrap();
    assert_eq!(next(&mut stream).await, ("BOOKMARK".into(), moved.0));
    assert!(stream.next().await.is_none());
}
