//! Resources and groups that come and go.

use base_meta::{Gvk, Status};
use http_body_util::BodyExt;
use serde_json::json;

use super::*;
use crate::{Delegate, Delegated};

const PATH: &str = "/apis/example.com/v1/namespaces/default/gadgets";

fn gadgets() -> Arc<fake::Fake> {
    let mut def = sample::def();
    (def.gvk, def.plural, def.singular) = (Gvk::of("example.com", "v1", "Gadget"), "gadgets".into(), "gadget".into());
    def.deprecation = Some("example.com/v1 Gadget is deprecated".into());
    fake::Fake::of(def)
}

async fn tag(server: &ApiServer, path: &str) -> String {
    let request =
        Request::get(path).header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let response = send(server, "alice", request.body(Full::default()).unwrap()).await;
    response.headers()["etag"].to_str().unwrap().to_owned()
}

async fn url(server: &ApiServer, group: &str) -> Value {
    get(server, "/openapi/v3").await.1["paths"][group]["serverRelativeURL"].clone()
}

#[tokio::test]
async fn a_resource_comes_changes_and_goes() {
    let (server, _) = server();
    let (before, apps) = (tag(&server, "/apis").await, url(&server, "apis/apps/v1").await);
    assert_eq!(get(&server, PATH).await.0, 404);

    let gadgets = gadgets();
    server.set_resources("example.com", vec![gadgets.clone()]);
    assert_eq!(get(&server, PATH).await.0, 200);
    assert_eq!(get(&server, "/apis/example.com/v1").await.1["resources"][0]["name"], "gadgets");
    assert_eq!(get(&server, "/apis").await.1["groups"][1]["name"], "example.com");
    assert_ne!(tag(&server, "/apis").await, before);
    assert!(url(&server, "apis/example.com/v1").await.is_string());
    assert_eq!(url(&server, "apis/apps/v1").await, apps);

    let request = Request::get(format!("{PATH}?watch=1")).body(Full::default()).unwrap();
    let watch = send(&server, "alice", request).await;
    assert_eq!(watch.headers()["warning"], r#"299 - "example.com/v1 Gadget is deprecated""#);
    // The same resource again: its watches go on.
    server.set_resources("example.com", vec![gadgets.clone()]);
    gadgets.put("a", json!({ "metadata": {} }));
    let mut body = watch.into_body();
    assert!(body.frame().await.is_some());
    server.set_resources("example.com", Vec::new());
    assert!(body.frame().await.is_none(), "a removed resource's watch ends");
    assert_eq!(get(&server, PATH).await.0, 404);
    assert_eq!(get(&server, "/apis/example.com").await.0, 404);
    assert_eq!(tag(&server, "/apis").await, before);
}

#[tokio::test]
async fn a_built_in_resource_is_not_replaced() {
    let (server, widgets) = server();
    widgets.put("a", json!({ "metadata": {} }));
    server.set_resources("apps", vec![fake::Fake::new()]);
    let (_, list) = get(&server, "/apis/apps/v1/namespaces/default/deployments").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

struct Metrics;

#[async_trait::async_trait]
impl Delegate for Metrics {
    async fn serve(&self, user: Arc<UserInfo>, request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(crate::respond::text(http::StatusCode::OK, format!("{} {}", user.name, request.uri())))
    }
}

fn delegated(version: &str, stale: bool) -> Delegated {
    Delegated {
        version: version.into(),
        group_priority: 100,
        version_priority: 100,
        delegate: Arc::new(Metrics),
        resources: json!([{ "resource": "nodes" }]),
        stale,
        openapi_hash: Some("ABC".into()),
        openapi_v2: None,
    }
}

#[tokio::test]
async fn a_delegate_answers_in_place_of_own_resources() {
    let (server, _) = server();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let own = get(&server, "/apis/apps/v1").await;
    server.set_delegated("apps", vec![delegated("v1", false)]);
    for path in [deployments, "/apis/apps/v1"] {
        assert_eq!(get(&server, path).await.1, format!("alice {path}"));
    }
    assert_eq!(url(&server, "apis/apps/v1").await, "/openapi/v3/apis/apps/v1?hash=ABC");
    let groups = get(&server, "/apis").await.1["groups"].clone();
    assert_eq!(groups[0]["versions"], json!([{ "groupVersion": "apps/v1", "version": "v1" }]));
    server.set_delegated("apps", Vec::new());
    assert_eq!(get(&server, deployments).await.1["kind"], "DeploymentList");
    assert_eq!(get(&server, "/apis/apps/v1").await, own);
}

#[tokio::test]
async fn a_delegate_gets_the_whole_request() {
    let (server, _) = server();
    server.set_delegated("metrics.k8s.io", vec![delegated("v1beta1", false)]);
    server.set_resources("example.com", vec![gadgets()]);
    for path in ["/apis/metrics.k8s.io/v1beta1/nodes?limit=5", "/apis/metrics.k8s.io/v1beta1"] {
        assert_eq!(get(&server, path).await.1, format!("alice {path}"));
    }
    assert_eq!(get(&server, "/openapi/v3/apis/metrics.k8s.io/v1beta1").await.0, 200);
    assert_eq!(url(&server, "apis/metrics.k8s.io/v1beta1").await, "/openapi/v3/apis/metrics.k8s.io/v1beta1?hash=ABC");
    let groups = get(&server, "/apis").await.1["groups"].clone();
    let names: Vec<&str> = groups.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["apps", "example.com", "metrics.k8s.io"]);
    let refused = Request::get("/apis/metrics.k8s.io/v1beta1/nodes").body(Full::default()).unwrap();
    assert_eq!(send(&server, "mallory", refused).await.status(), 403);

    server.set_delegated("metrics.k8s.io", vec![delegated("v1beta1", true)]);
    let request =
        Request::get("/apis").header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let response = send(&server, "alice", request.body(Full::default()).unwrap()).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(document["items"][2]["versions"][0]["freshness"], "Stale");
    assert_eq!(document["items"][2]["versions"][0]["resources"][0]["resource"], "nodes");
    server.set_delegated("metrics.k8s.io", Vec::new());
    assert_eq!(get(&server, "/apis/metrics.k8s.io/v1beta1").await.0, 404);
}
