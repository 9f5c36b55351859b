#![allow(clippy::unwrap_used)]
use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::tests::{ask, server_of};

#[derive(Default)]
struct Kept(Mutex<Vec<Value>>);

impl Sink for Kept {
    fn write(&self, line: Vec<u8>) {
        assert!(line.ends_with(b"}\n"));
        self.0.lock().unwrap().push(serde_json::from_slice(&line).unwrap());
    }
}

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

fn start(rules: &str) -> (crate::ApiServer, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let policy = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rules}]")).unwrap();
    let (server, _) = server_of(crate::Limits::default(), Some(Audit::new(policy, kept.clone())));
    (server, kept)
}

#[tokio::test]
async fn a_write_is_recorded_with_both_objects() {
    let (server, kept) = start("{level: RequestResponse, verbs: [create], omitManagedFields: true}");
    let body = br#"{"metadata":{"name":"a","managedFields":[{}]},"spec":{}}"#;
    let (code, _) = ask(&server, "POST", PATH, &[("user-agent", "test/1")], body).await;
    assert_eq!(code, 201);
    ask(&server, "GET", PATH, &[], b"").await;
    let events = kept.0.lock().unwrap();
    let stages: Vec<&str> = events.iter().map(|event| event["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let last = &events[1];
    assert_eq!(last["auditID"], events[0]["auditID"]);
    assert_eq!((&last["verb"], &last["user"]["username"]), (&json!("create"), &json!("alice")));
    let reference =
        json!({ "resource": "deployments", "namespace": "default", "apiGroup": "apps", "apiVersion": "v1" });
    assert_eq!((&last["objectRef"], &last["userAgent"]), (&reference, &json!("test/1")));
    assert_eq!(last["requestObject"], json!({ "metadata": { "name": "a" }, "spec": {} }));
    assert_eq!(last["responseObject"]["metadata"]["resourceVersion"], "1");
    assert_eq!(last["responseStatus"], json!({ "metadata": {}, "code": 201 }));
}

#[tokio::test]
async fn refusals_panics_and_streams_are_recorded() {
    let (server, kept) = start("{level: Metadata}");
    assert_eq!(ask(&server, "GET", &format!("{PATH}/none"), &[], b"").await.0, 404);
    ask(&server, "POST", PATH, &[], br#"{"metadata":{"name":"panic"}}"#).await;
    let watch = http::Request::get(format!("{PATH}?watch=1")).body(Default::default()).unwrap();
    drop(crate::tests::send(&server, "alice", watch).await);
    let events = kept.0.lock().unwrap();
    let stages: Vec<(&str, &Value)> =
        events.iter().map(|event| (event["stage"].as_str().unwrap(), &event["responseStatus"]["code"])).collect();
    let (none, ok) = (&Value::Null, &json!(200));
    assert_eq!(
        stages,
        [
            ("RequestReceived", none),
            ("ResponseComplete", &json!(404)),
            ("RequestReceived", none),
            ("Panic", &json!(500)),
            ("RequestReceived", none),
            ("ResponseStarted", ok),
            ("ResponseComplete", ok),
        ]
    );
    assert_eq!(events[1]["responseStatus"]["reason"], "NotFound");
    assert!(events.iter().all(|event| event.get("requestObject").is_none()));
}
