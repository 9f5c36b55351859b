#![allow(clippy::unwrap_used)]
use crate::tests::{ask, server};

#[tokio::test]
async fn requests_are_counted_under_upstreams_names() {
    let (server, widgets) = server();
    widgets.put("a", serde_json::json!({ "metadata": {} }));
    let path = "/apis/apps/v1/namespaces/default/deployments";
    ask(&server, "GET", path, &[], b"").await;
    ask(&server, "GET", &format!("{path}/a"), &[], b"").await;
    let (code, text) = ask(&server, "GET", "/metrics", &[], b"").await;
    let text = text.as_str().unwrap();
    assert_eq!(code, 200);
    let labels = r#"component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="",verb="GET",version="v1""#;
    for line in [
        format!("apiserver_request_total{{code=\"200\",{labels}}} 1"),
        format!("apiserver_request_duration_seconds_count{{{labels}}} 1"),
        "apiserver_storage_objects{resource=\"deployments.apps\"} 1".to_owned(),
        "process_open_fds ".to_owned(),
        "process_cpu_seconds_total ".to_owned(),
        "apiserver_flowcontrol_current_executing_requests{priority_level=\"global-default\"} 0".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}
