use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::*;

type Frames = mpsc::UnboundedReceiver<String>;

/// As API servers write it: the type first.
fn frame(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn object(name: &str, version: u64) -> Value {
    let meta = json!({ "name": name, "namespace": "default", "resourceVersion": version.to_string() });
    json!({ "apiVersion": "example.org/v1", "kind": "Boat", "metadata": meta })
}

/// An API of boats whose lists are what `lists` has, the last one again and again, and whose watches send what
/// the test sends.
fn boats(lists: Vec<Vec<Value>>, watch: Frames) -> kube::Api<DynamicObject> {
    let watch = Arc::new(tokio::sync::Mutex::new(watch));
    let lists = Arc::new(Mutex::new(VecDeque::from(lists)));
    let client = crate::over(tower::service_fn(move |request: Request<kube::client::Body>| {
        let (lists, watch) = (Arc::clone(&lists), Arc::clone(&watch));
        async move {
            let body = if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let frames = watch.lock_owned().await;
                let lines = futures::stream::unfold(frames, |mut frames| async move {
                    let line = frames.recv().await?;
                    Some((Ok::<_, Infallible>(http_body::Frame::data(bytes::Bytes::from(line))), frames))
                });
                StreamBody::new(lines).boxed_unsync()
            } else {
                let mut lists = lists.lock().unwrap_or_else(PoisonError::into_inner);
                let items = if lists.len() > 1 { lists.pop_front() } else { lists.front().cloned() };
                let list = json!({
                    "apiVersion": "example.org/v1", "kind": "BoatList",
                    "metadata": { "resourceVersion": "7" }, "items": items,
                });
                Full::new(bytes::Bytes::from(list.to_string())).boxed_unsync()
            };
            Ok::<_, Infallible>(Response::new(body))
        }
    }));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.org", "v1", "Boat"));
    kube::Api::all_with(client, &resource)
}

#[tokio::test]
async fn it_shows_the_list_then_every_change() {
    let (send, frames) = mpsc::unbounded_channel();
    let tasks = Tasks::root("test");
    let api = boats(vec![vec![object("dinghy", 3), object("ignored", 4)]], frames);
    let informer = informer(&tasks, api, watcher::Config::default(), |boat: DynamicObject| {
        let name = boat.metadata.name?;
        (name != "ignored").then_some(name)
    });
    informer.synced().await;
    let key = ObjectKey::new("default", "dinghy");
    assert_eq!(informer.get(&key).as_deref().map(String::as_str), Some("dinghy"));
    assert_eq!(informer.list().len(), 1);

    let mut changes = informer.subscribe();
    let first = changes.recv().await.expect("what is there comes first");
    assert!(matches!(&first, Change::Applied { old: None, .. }) && first.key() == &key);
    send.send(frame("ADDED", &object("junk", 8))).expect("watching");
    send.send(frame("DELETED", &object("dinghy", 9))).expect("watching");
    informer.caught_up("9").await.expect("seen");
    assert!(matches!(changes.recv().await, Some(Change::Applied { key, .. }) if key.name == "junk"));
    assert!(matches!(changes.recv().await, Some(Change::Deleted { key, .. }) if key.name == "dinghy"));
    assert_eq!(informer.get(&key), None);
}

#[tokio::test]
async fn a_write_that_never_shows_is_an_error() {
    let (_send, frames) = mpsc::unbounded_channel();
    let tasks = Tasks::root("test");
    let boats = informer(
        &tasks,
        boats(vec![vec![object("dinghy", 3)]], frames),
        watcher::Config::default(),
        |_: DynamicObject| Some(()),
    );
    boats.synced().await;
    tokio::time::pause();
    assert!(boats.caught_up("99").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_expired_starts_from_a_fresh_list() {
    let (send, frames) = mpsc::unbounded_channel();
    let tasks = Tasks::root("test");
    let api = boats(vec![vec![object("dinghy", 3), object("junk", 4)], vec![object("junk", 9)]], frames);
    let names = |boat: DynamicObject| boat.metadata.name;
    let informer = informer(&tasks, api, watcher::Config::default(), names);
    informer.synced().await;
    assert_eq!(informer.list().len(), 2);
    let mut changes = informer.subscribe();
    let status =
        json!({ "kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410 });
    send.send(frame("ERROR", &status)).expect("watching");
    loop {
        let change = changes.recv().await.expect("a change");
        if let Change::Deleted { key, .. } = change {
            break assert_eq!(key.name, "dinghy");
        }
    }
    assert_eq!(informer.list().len(), 1);
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_is_left_out() {
    let (send, frames) = mpsc::unbounded_channel();
    let tasks = Tasks::root("test");
    let mut odd = object("odd", 4);
    odd["metadata"]["labels"] = json!(7);
    let api = boats(vec![vec![odd.clone(), object("dinghy", 3)]], frames);
    let names = |boat: DynamicObject| boat.metadata.name;
    let informer = informer(&tasks, api, watcher::Config::default(), names);
    informer.synced().await;
    assert_eq!(informer.list().len(), 1);
    odd["metadata"]["resourceVersion"] = json!("10");
    send.send(frame("MODIFIED", &odd)).expect("watching");
    informer.caught_up("10").await.expect("seen all the same");
    assert_eq!(informer.list().len(), 1);
}
