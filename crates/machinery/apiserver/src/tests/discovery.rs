//! Against what upstream answers for the same kinds.

use serde_json::json;

use super::*;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const CHANGE: [&str; 3] = ["get", "patch", "update"];
const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

#[tokio::test]
async fn the_legacy_documents() {
    let (server, _) = server();
    let version = json!({ "groupVersion": "apps/v1", "version": "v1" });
    let entry = json!({ "name": "apps", "preferredVersion": version, "versions": [version] });
    assert_eq!(get(&server, "/apis").await.1, json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [entry] }));
    let mut group = json!({ "kind": "APIGroup", "apiVersion": "v1" });
    crate::discovery::merge(&mut group, &entry);
    assert_eq!(get(&server, "/apis/apps/").await.1, group);
    assert_eq!(
        get(&server, "/api").await.1,
        json!({
            "kind": "APIVersions", "versions": [],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "10.0.0.1:6443" }],
        })
    );
    let list = get(&server, "/apis/apps/v1").await.1;
    let expected = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1",
        "resources": [
            { "name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
              "shortNames": ["deploy"], "categories": ["all"], "verbs": ALL, "storageVersionHash": "8aSe+NMegvE=" },
            { "name": "deployments/exec", "singularName": "", "namespaced": true, "kind": "DeploymentExecOptions",
              "verbs": ["create", "get"] },
            { "name": "deployments/scale", "singularName": "", "namespaced": true, "kind": "Scale",
              "group": "autoscaling", "version": "v1", "verbs": CHANGE },
            { "name": "deployments/status", "singularName": "", "namespaced": true, "kind": "Deployment",
              "verbs": CHANGE },
        ],
    });
    assert_eq!(list, expected);
}

#[tokio::test]
async fn the_aggregated_document() {
    let (server, _) = server();
    let own = |kind: &str| json!({ "group": "", "version": "", "kind": kind });
    let (_, document) = ask(&server, "GET", "/apis", &[("accept", AGGREGATED)], b"").await;
    let expected = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{
            "metadata": { "name": "apps" },
            "versions": [{ "version": "v1", "freshness": "Current", "resources": [{
                "resource": "deployments", "singularResource": "deployment", "scope": "Namespaced",
                "shortNames": ["deploy"], "categories": ["all"], "verbs": ALL, "responseKind": own("Deployment"),
                "subresources": [
                    { "subresource": "exec", "responseKind": own("DeploymentExecOptions"), "verbs": ["create", "get"] },
                    { "subresource": "scale", "verbs": CHANGE,
                      "responseKind": { "group": "autoscaling", "version": "v1", "kind": "Scale" } },
                    { "subresource": "status", "responseKind": own("Deployment"), "verbs": CHANGE },
                ],
            }] }],
        }],
    });
    assert_eq!(document, expected);
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again() {
    let (server, _) = server();
    let ask = async |tag: Option<&http::HeaderValue>| {
        let mut request = Request::get("/apis").header("accept", AGGREGATED);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        send(&server, "alice", request.body(Full::default()).unwrap()).await
    };
    let first = ask(None).await;
    assert_eq!(first.headers()["content-type"], AGGREGATED);
    let second = ask(first.headers().get("etag")).await;
    assert_eq!(second.status(), 304);
}
