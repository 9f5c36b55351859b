//! Whatever a client sends, it gets a 4xx Status with a reason, and the server stays up.

use serde_json::json;

use super::*;
use crate::body::LIMIT;

const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

#[tokio::test]
async fn every_bad_request_is_the_clients_fault() {
    let (server, widgets) = server();
    widgets.put("a", json!({ "metadata": {} }));
    let item = format!("{PATH}/a");
    let large = vec![b' '; LIMIT + 1];
    type Row<'a> = (&'a str, String, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);
    let json: &[(&str, &str)] = &[("content-type", "application/json")];
    let merge: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];
    let table: Vec<Row<'_>> = vec![
        // Bodies.
        ("POST", PATH.into(), &[("content-type", "text/plain")], b"{}", 415, "UnsupportedMediaType"),
        ("POST", PATH.into(), &[("content-type", "application/vnd.kubernetes.protobuf")], b"k8s", 400, "BadRequest"),
        ("POST", PATH.into(), json, &large, 413, "RequestEntityTooLarge"),
        ("POST", PATH.into(), json, b"\xff\xfe", 400, "BadRequest"),
        ("POST", PATH.into(), json, b"{", 400, "BadRequest"),
        ("POST", PATH.into(), json, b"", 400, "BadRequest"),
        ("PATCH", item.clone(), json, b"{}", 415, "UnsupportedMediaType"),
        ("PATCH", item.clone(), merge, &large, 413, "RequestEntityTooLarge"),
        ("DELETE", item.clone(), json, b"[", 400, "BadRequest"),
        ("DELETE", item.clone(), json, br#"{"kind":"Pod"}"#, 400, "BadRequest"),
        ("DELETE", item.clone(), json, br#"{"gracePeriodSeconds":"soon"}"#, 400, "BadRequest"),
        ("DELETE", item.clone(), json, br#"{"dryRun":["Some"]}"#, 422, "Invalid"),
        ("DELETE", item.clone(), &[("content-type", "application/yaml")], b"a: [", 400, "BadRequest"),
        ("DELETE", item.clone(), &[("content-type", "image/png")], b"x", 415, "UnsupportedMediaType"),
        // Queries.
        ("GET", format!("{PATH}?limit=ten"), &[], b"", 400, "BadRequest"),
        ("GET", format!("{PATH}?labelSelector=a%20in"), &[], b"", 400, "BadRequest"),
        ("GET", format!("{PATH}?fieldSelector=nonsense"), &[], b"", 400, "BadRequest"),
        ("GET", format!("{PATH}?fieldSelector=spec.other%3D1"), &[], b"", 400, "BadRequest"),
        ("GET", format!("{PATH}?resourceVersionMatch=Exact"), &[], b"", 422, "Invalid"),
        ("GET", format!("{PATH}?resourceVersionMatch=Soon&resourceVersion=1"), &[], b"", 422, "Invalid"),
        ("GET", format!("{PATH}?sendInitialEvents=true"), &[], b"", 422, "Invalid"),
        ("GET", format!("{PATH}?watch=1&sendInitialEvents=true"), &[], b"", 422, "Invalid"),
        ("GET", format!("{PATH}?watch=1&timeoutSeconds=x"), &[], b"", 400, "BadRequest"),
        ("GET", format!("{PATH}?x=%ff"), &[], b"", 400, "BadRequest"),
        ("POST", format!("{PATH}?dryRun=Some"), json, b"{}", 422, "Invalid"),
        ("POST", format!("{PATH}?fieldValidation=Lax"), json, b"{}", 422, "Invalid"),
        ("POST", format!("{PATH}?fieldManager={}", "m".repeat(129)), json, b"{}", 422, "Invalid"),
        ("POST", format!("{PATH}?fieldManager=a%07"), json, b"{}", 422, "Invalid"),
        ("PATCH", format!("{item}?force=true"), merge, b"{}", 422, "Invalid"),
        ("PATCH", item.clone(), &[("content-type", "application/apply-patch+yaml")], b"{}", 422, "Invalid"),
        ("DELETE", format!("{item}?propagationPolicy=Sideways"), &[], b"", 422, "Invalid"),
        ("DELETE", format!("{item}?gracePeriodSeconds=x"), &[], b"", 400, "BadRequest"),
        // Forms.
        ("GET", item.clone(), &[("accept", "text/html")], b"", 406, "NotAcceptable"),
        ("GET", item.clone(), &[("accept", "application/cbor")], b"", 406, "NotAcceptable"),
        ("GET", format!("{PATH}?watch=1"), &[("accept", "application/yaml")], b"", 406, "NotAcceptable"),
        // Methods.
        ("HEAD", item.clone(), &[], b"", 405, ""),
        ("OPTIONS", item.clone(), &[], b"", 405, "MethodNotAllowed"),
        ("POST", item.clone(), json, b"{}", 405, "MethodNotAllowed"),
        ("PUT", PATH.into(), json, b"{}", 405, "MethodNotAllowed"),
        ("POST", "/apis/apps/v1/deployments".into(), json, b"{}", 405, "MethodNotAllowed"),
        ("POST", format!("{item}/status"), json, b"{}", 405, "MethodNotAllowed"),
        ("POST", "/version".into(), &[], b"", 405, "MethodNotAllowed"),
        // Paths.
        ("GET", format!("{PATH}/missing"), &[], b"", 404, "NotFound"),
        ("GET", "/apis/apps/v1/deployments/a".into(), &[], b"", 404, "NotFound"),
        ("GET", "/apis/apps/v1/ghosts".into(), &[], b"", 404, "NotFound"),
        ("GET", "/apis/apps/v2/deployments".into(), &[], b"", 404, "NotFound"),
        ("GET", "/apis/nowhere/v1".into(), &[], b"", 404, "NotFound"),
        ("GET", format!("{item}/ghost"), &[], b"", 404, "NotFound"),
        ("GET", format!("{item}/status/more"), &[], b"", 404, "NotFound"),
        ("GET", "/nowhere".into(), &[], b"", 404, "NotFound"),
        ("GET", "/api/%ff".into(), &[], b"", 400, "BadRequest"),
        ("GET", "/apis/apps/v1/watch".into(), &[], b"", 400, "BadRequest"),
        ("GET", "/openapi/v3/apis/nowhere/v1".into(), &[], b"", 404, "NotFound"),
    ];
    for (method, path, headers, body, code, reason) in table {
        let (found, status) = ask(&server, method, &path, headers, body).await;
        assert_eq!(found, code, "{method} {path} {headers:?}: {status}");
        if !reason.is_empty() {
            assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!(reason)), "{method} {path}");
            assert_eq!(status["code"], code);
        }
    }
    assert_eq!(get(&server, &item).await.0, 200);
}

#[tokio::test]
async fn messages_read_as_upstreams() {
    let (server, _) = server();
    let message = async |method: &str, path: &str| {
        ask(&server, method, path, &[], b"{}").await.1["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        message("POST", &format!("{PATH}?dryRun=Some")).await,
        r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All""#
    );
    assert_eq!(
        message("GET", &format!("{PATH}?fieldSelector=spec.other%3D1")).await,
        "field label not supported: spec.other"
    );
    assert_eq!(message("GET", "/apis/x/v1/y").await, "the server could not find the requested resource");
}
