use std::time::Duration;

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

fn create(name: &str) -> Request<Full<Bytes>> {
    let body = format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
    Request::post(PATH).body(Full::new(Bytes::from(body))).unwrap()
}

async fn status(response: Response<Body>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn the_forbidden_are_told_what_they_lack() {
    let (server, _) = server();
    let response = send(&server, "mallory", Request::get(PATH).body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), 403);
    assert_eq!(
        status(response).await["message"],
        r#"deployments.apps is forbidden: User "mallory" cannot list resource "deployments" in API group "apps" in the namespace "default""#
    );
}

#[tokio::test]
async fn a_panic_is_one_requests_own() {
    let (server, _) = server();
    let response = send(&server, "alice", create("panic")).await;
    assert_eq!(response.status(), 500);
    assert_eq!(status(response).await["reason"], "InternalError");
    assert_eq!(send(&server, "alice", create("fine")).await.status(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_ended() {
    let (server, _) = server();
    let response = send(&server, "alice", create("hang")).await;
    assert_eq!(response.status(), 504);
    assert_eq!(status(response).await["reason"], "Timeout");
}

#[tokio::test]
async fn a_write_outlives_the_client_that_asked_for_it() {
    let (server, widgets) = server();
    let asked = tokio::spawn({
        let server = server.clone();
        async move { send(&server, "alice", create("slow")).await.status() }
    });
    widgets.waiting.notified().await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    widgets.release.notify_one();
    widgets.written.notified().await;
    assert_eq!(get(&server, &format!("{PATH}/slow")).await.0, 200);
}

#[tokio::test]
async fn handlers_get_the_request_as_it_came() {
    let (server, _) = server();
    let path = format!("{PATH}/a/exec?command=ls");
    for method in ["GET", "POST"] {
        let (code, text) = ask(&server, method, &path, &[], b"").await;
        assert_eq!((code, text.as_str().unwrap()), (200, format!("{method} {path} Some(\"exec\") a").as_str()));
    }
    assert_eq!(ask(&server, "PUT", &path, &[], b"").await.0, 405);
}

#[tokio::test]
async fn a_handler_may_need_another_verb_than_the_requests() {
    let (server, _) = server();
    let get = |path: String| Request::get(path).body(Full::default()).unwrap();
    let response = send(&server, "reader", get(format!("{PATH}/a/exec"))).await;
    assert_eq!(response.status(), 403);
    let message = status(response).await["message"].as_str().unwrap().to_owned();
    let expected = r#"deployments.apps "a" is forbidden: User "reader" cannot create resource "deployments/exec" in API group "apps""#;
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(send(&server, "alice", get(format!("{PATH}/a/exec"))).await.status(), 200);
    assert_eq!(send(&server, "reader", get(PATH.into())).await.status(), 200);
}

#[tokio::test]
async fn health_version_and_paths_answer() {
    let (server, _) = server();
    assert_eq!(get(&server, "/readyz").await, (200, "ok".into()));
    let (_, version) = get(&server, "/version").await;
    assert_eq!((&version["major"], &version["minor"]), (&"1".into(), &"36".into()));
    assert_eq!(version["gitVersion"], "v1.36.2+sampan-test");
    let (_, index) = get(&server, "/").await;
    let paths: Vec<&str> = index["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/readyz/cache", "/version"] {
        assert!(paths.contains(&path), "{path}");
    }
    assert!(!paths.contains(&"/livez/cache"));
}

#[tokio::test]
async fn in_process_callers_are_no_part_of_the_limits() {
    let limits = crate::Limits { read_only: 0, mutating: 0, request_timeout: Duration::from_secs(1) };
    let (server, _) = server_with(limits);
    assert_eq!(get(&server, PATH).await.0, 200);
}
