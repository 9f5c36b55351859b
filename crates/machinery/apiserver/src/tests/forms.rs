use serde_json::json;

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

fn filled() -> ApiServer {
    let (server, widgets) = server();
    widgets.put("a", json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": { "x": 1 } }));
    widgets.put("b", json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {} }));
    server
}

#[tokio::test]
async fn an_object_is_sent_whole_with_its_version() {
    let (code, object) = get(&filled(), &format!("{PATH}/a")).await;
    assert_eq!(code, 200);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "a", "resourceVersion": "1" }, "spec": { "x": 1 },
    });
    assert_eq!(object, expected);
}

#[tokio::test]
async fn lists_are_sent_in_every_form() {
    let server = filled();
    let (_, list) = get(&server, PATH).await;
    assert_eq!(list["kind"], "DeploymentList");
    assert_eq!(list["items"][0]["kind"], json!(null), "an item's type is its list's");
    assert_eq!(list["items"][1]["metadata"]["resourceVersion"], "2");

    let (_, list) = ask(&server, "GET", PATH, &[("accept", METADATA_LIST)], b"").await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    let first = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "name": "a", "resourceVersion": "1" } });
    assert_eq!(list["items"][0], first);

    let (_, table) = ask(&server, "GET", PATH, &[("accept", TABLE)], b"").await;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["metadata"]["resourceVersion"], "2");
    let columns = json!([
        { "name": "Name", "type": "string", "format": "name", "description": "", "priority": 0 },
        { "name": "Size", "type": "integer", "format": "", "description": "how large", "priority": 1 },
    ]);
    assert_eq!(table["columnDefinitions"], columns);
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"], first);
}

#[tokio::test]
async fn a_row_brings_as_much_of_its_object_as_asked() {
    let server = filled();
    let one = async |include: &str| {
        let path = format!("{PATH}/a?includeObject={include}");
        ask(&server, "GET", &path, &[("accept", TABLE)], b"").await
    };
    assert_eq!(one("None").await.1["rows"][0]["object"], json!(null));
    assert_eq!(one("Metadata").await.1["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(one("Object").await.1["rows"][0]["object"]["spec"]["x"], 1);
    assert_eq!(one("Half").await.0, 400);
}

#[tokio::test]
async fn yaml_and_metadata_of_one_object() {
    let server = filled();
    let (_, yaml) = ask(&server, "GET", &format!("{PATH}/b"), &[("accept", "application/yaml")], b"").await;
    assert!(yaml.as_str().unwrap().contains("kind: Deployment\nmetadata:\n  name: b\n"), "{yaml}");
    let (_, partial) = ask(&server, "GET", &format!("{PATH}/a"), &[("accept", METADATA)], b"").await;
    assert_eq!(partial["kind"], "PartialObjectMetadata");
    assert_eq!(partial["spec"], json!(null));
}

#[tokio::test]
async fn writes_answer_as_upstreams_do() {
    let (server, _) = server();
    let body = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"c"}}"#;
    let agent = ("user-agent", "kubectl/v1.36.2 (linux/amd64)");
    let request = Request::post(PATH).header(agent.0, agent.1).body(Full::new(Bytes::from_static(body))).unwrap();
    let response = send(&server, "alice", request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["warning"], r#"299 - "made by kubectl""#);
    assert!(response.headers().contains_key("audit-id"));

    let item = format!("{PATH}/c");
    assert_eq!(ask(&server, "PUT", &item, &[("content-type", "application/json")], body).await.0, 200);
    for (media, kind, code) in [
        ("application/json-patch+json", "json", 200),
        ("application/merge-patch+json", "merge", 200),
        ("application/strategic-merge-patch+json", "strategic", 200),
        ("application/apply-patch+yaml", "apply", 201),
    ] {
        let path = format!("{item}?fieldManager=me");
        let (found, object) = ask(&server, "PATCH", &path, &[("content-type", media)], b"{}").await;
        assert_eq!((found, &object["patched"]), (code, &json!(kind)));
    }
    assert_eq!(get(&server, &format!("{item}/scale")).await.1["kind"], "Scale");
    assert_eq!(get(&server, &format!("{item}/status")).await.1["kind"], "Deployment");

    let (code, pending) = ask(&server, "DELETE", &item, &[], br#"{"gracePeriodSeconds":30}"#).await;
    assert_eq!((code, &pending["kind"]), (200, &json!("Deployment")));
    let options = b"kind: DeleteOptions\ngracePeriodSeconds: 0\n";
    let (code, status) = ask(&server, "DELETE", &item, &[("content-type", "application/yaml")], options).await;
    let expected = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": { "name": "c", "group": "apps", "kind": "deployments", "uid": "u-1" } });
    assert_eq!((code, status), (200, expected));
    assert_eq!(ask(&server, "DELETE", PATH, &[], b"").await.1["kind"], "DeploymentList");
}
