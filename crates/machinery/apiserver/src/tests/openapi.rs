use serde_json::json;

use super::*;

async fn v3(server: &ApiServer) -> Value {
    let (_, index) = get(server, "/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
    let (code, document) = get(server, &url).await;
    assert_eq!(code, 200);
    document
}

#[tokio::test]
async fn schemas_keep_list_keys_and_merge_keys() {
    let (server, _) = server();
    let schemas = v3(&server).await["components"]["schemas"].clone();
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    assert_eq!(spec["required"], json!(["selector"]));
    assert_eq!(
        spec["properties"],
        json!({
            "selector": { "type": "object", "additionalProperties": { "type": "string", "default": "" },
                "x-kubernetes-map-type": "atomic" },
            "ports": { "type": "array",
                "items": { "allOf": [reference("io.k8s.api.apps.v1.Port")], "default": {} },
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "x-kubernetes-patch-merge-key": "port", "x-kubernetes-patch-strategy": "merge" },
            "replicas": { "type": "integer", "format": "int32" },
            "limit": { "allOf": [reference("io.k8s.apimachinery.pkg.api.resource.Quantity")] },
            "again": { "allOf": [reference("io.k8s.api.apps.v1.DeploymentSpec")] },
            "inlined": { "type": "string" },
        })
    );
    let port = &schemas["io.k8s.api.apps.v1.Port"];
    assert_eq!(
        port["properties"]["protocol"],
        json!({ "type": "string", "default": "TCP", "enum": ["SCTP", "TCP", "UDP"] })
    );
    assert_eq!(port["x-kubernetes-map-type"], "atomic");
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{ "group": "apps", "version": "v1", "kind": "Deployment" }])
    );
    assert_eq!(
        schemas["io.k8s.api.autoscaling.v1.Scale"]["x-kubernetes-group-version-kind"][0]["group"],
        "autoscaling"
    );
    assert_eq!(schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"], "int-or-string");
    let text = serde_json::to_string(&schemas).unwrap();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.get(name).is_some(), "{name} is referred to and not defined");
    }
}

#[tokio::test]
async fn operations_say_what_clients_verify() {
    let (server, _) = server();
    let document = v3(&server).await;
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let patch = &item["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({ "group": "apps", "version": "v1", "kind": "Deployment" })
    );
    let names = |operation: &Value| -> Vec<String> {
        let parameters = operation["parameters"].as_array().unwrap();
        parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(patch), ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(names(&item["put"]), ["dryRun", "fieldManager", "fieldValidation"]);
    assert_eq!(names(item), ["name", "namespace", "pretty"]);
    let collection = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(names(&collection["post"]), ["dryRun", "fieldManager", "fieldValidation"]);
    assert_eq!(collection["get"]["x-kubernetes-action"], "list");
    assert!(document["paths"]["/apis/apps/v1/deployments"]["get"].is_object());
}

#[tokio::test]
async fn version_two_has_the_same_facts_in_its_own_spelling() {
    let (server, _) = server();
    let (_, document) = get(&server, "/openapi/v2").await;
    assert_eq!(document["swagger"], "2.0");
    let spec = &document["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"];
    assert_eq!(spec["ports"]["items"], json!({ "$ref": "#/definitions/io.k8s.api.apps.v1.Port" }));
    assert_eq!(spec["ports"]["x-kubernetes-list-map-keys"], json!(["port", "protocol"]));
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = Request::get("/openapi/v2").header("accept", protobuf).body(Full::default()).unwrap();
    let response = send(&server, "alice", request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert_eq!(ask(&server, "GET", "/openapi/v3", &[("accept", protobuf)], b"").await.0, 406);
}

#[tokio::test]
async fn documents_are_cached_by_their_hash() {
    let (server, _) = server();
    let request =
        |path: &str| Request::get(path.to_owned()).header("accept-encoding", "gzip").body(Full::default()).unwrap();
    let (_, index) = get(&server, "/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let response = send(&server, "alice", request(url)).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let moved = send(&server, "alice", request("/openapi/v3/apis/apps/v1?hash=OLD")).await;
    assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (301, url));
}
