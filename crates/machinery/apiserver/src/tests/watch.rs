use std::time::Duration;

use machinery_registry::resource::WatchEvent;
use machinery_storage::Revision;
use serde_json::json;

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Reads whole lines off a watch.
struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    async fn open(server: &ApiServer, query: &str, accept: &str) -> Self {
        let request = Request::get(format!("{PATH}?watch=true{query}")).header("accept", accept);
        let response = send(server, "alice", request.body(Full::default()).unwrap()).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}

#[tokio::test]
async fn events_arrive_in_order_and_a_failure_ends_them() {
    let (server, widgets) = server();
    widgets.put("a", json!({ "metadata": {} }));
    let mut lines =
        Lines::open(&server, "&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan", "*/*")
            .await;
    let first = lines.next().await.unwrap();
    assert_eq!(first, json!({ "type": "ADDED", "object": { "metadata": { "name": "a", "resourceVersion": "1" } } }));
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "Deployment");
    assert_eq!(bookmark["object"]["metadata"]["annotations"], json!({ "k8s.io/initial-events-end": "true" }));

    widgets.put("a", json!({ "metadata": {}, "spec": {} }));
    assert_eq!(lines.next().await.unwrap()["type"], "MODIFIED");
    ask(&server, "DELETE", &format!("{PATH}/a"), &[], b"").await;
    assert_eq!(lines.next().await.unwrap()["type"], "DELETED");
    widgets.tell(WatchEvent::Error(base_meta::Status::expired("too old resource version")));
    let error = lines.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_table_names_its_columns_once() {
    let (server, widgets) = server();
    widgets.put("a", json!({ "metadata": {} }));
    let mut lines = Lines::open(&server, "", "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["object"]["columnDefinitions"].as_array().unwrap().len(), 2);
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    widgets.put("b", json!({ "metadata": {} }));
    let second = lines.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], json!(null));
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["name"], "b");

    let mut lines = Lines::open(&server, "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await;
    assert_eq!(lines.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
    widgets.tell(WatchEvent::Bookmark { revision: Revision(9), initial_events_end: false });
    lines.next().await.unwrap();
    assert_eq!(lines.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_at_its_time() {
    let (server, _) = server();
    let start = tokio::time::Instant::now();
    assert_eq!(Lines::open(&server, "&timeoutSeconds=5", "*/*").await.next().await, None);
    assert_eq!(start.elapsed().as_secs(), 5);
    let start = tokio::time::Instant::now();
    assert_eq!(Lines::open(&server, "", "*/*").await.next().await, None);
    assert!((Duration::from_secs(1800)..Duration::from_secs(3602)).contains(&start.elapsed()));
}

#[tokio::test]
async fn events_that_are_ready_share_a_chunk() {
    let (server, widgets) = server();
    for name in ["a", "b", "c"] {
        widgets.put(name, json!({ "metadata": {} }));
    }
    let mut lines = Lines::open(&server, "", "*/*").await;
    let chunk = lines.body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(chunk.iter().filter(|byte| **byte == b'\n').count(), 3);
}
