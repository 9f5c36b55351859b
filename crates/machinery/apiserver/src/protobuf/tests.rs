#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::*;
use crate::ApiServer;
use crate::tests::sample;

fn message(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = body.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

fn envelope(kind: &str, object: &[u8]) -> Vec<u8> {
    let types = [message(1, b"apps/v1"), message(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), message(1, &types), message(2, object), message(3, b""), message(4, b"")].concat()
}

/// Every shape: text, map, time, number, list of messages, bytes, quantity, either, embedded JSON, inlined message.
fn deployment() -> Vec<u8> {
    let label = [message(1, b"a"), message(2, b"b")].concat();
    let time = [message(3, &[0x08, 0x80, 0xd2, 0xa8, 0xb9, 0x06])].concat();
    let fields = message(4, &message(1, br#"{"f:spec":{}}"#));
    let meta = [message(1, b"web"), message(2, &label), time, fields, message(9, b"unknown")].concat();
    let number = message(1, &[0x08, 0, 0x10, 80]);
    let text = message(1, &[vec![0x08, 1], message(3, b"http")].concat());
    let port = [number, message(2, b""), message(3, &[1, 2, 3])].concat();
    let named = [text, message(2, b"UDP")].concat();
    let spec = [
        message(2, &port),
        message(2, &named),
        vec![0x18, 3],
        message(4, &message(1, b"100m")),
        message(7, &message(1, b"inlined")),
    ]
    .concat();
    [message(1, &meta), message(2, &spec)].concat()
}

#[test]
fn objects_come_out_as_their_json() {
    let value = to_json(&envelope("Deployment", &deployment()), sample::def().schema).unwrap();
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web",
            "labels": { "a": "b" },
            "creationTimestamp": "2024-11-05T14:17:36Z",
            "fieldsV1": { "f:spec": {} },
        },
        "spec": {
            "ports": [{ "port": 80, "key": "AQID" }, { "port": "http", "protocol": "UDP" }],
            "replicas": 3,
            "limit": "100m",
            "inlined": "inlined",
        },
    });
    assert_eq!(value, expected);
}

#[test]
fn another_kind_is_only_named() {
    let value = to_json(&envelope("Pod", &deployment()), sample::def().schema).unwrap();
    assert_eq!(value, json!({ "apiVersion": "apps/v1", "kind": "Pod" }));
}

#[test]
fn broken_bytes_are_refused_and_never_panic() {
    let schema = sample::def().schema;
    let whole = envelope("Deployment", &deployment());
    assert_eq!(to_json(b"{}", schema), Err(Malformed::Prefix));
    for end in 0..whole.len() {
        // A cut between two fields is a shorter message; any other is an error.
        let _ = to_json(&whole[..end], schema);
    }
    for at in MAGIC.len()..whole.len() {
        for bit in 0..8 {
            let mut broken = whole.clone();
            broken[at] ^= 1 << bit;
            let _ = to_json(&broken, schema);
        }
    }
    let nested = |times: usize| (0..times).fold(Vec::new(), |inner, _| message(5, &inner));
    assert!(to_json(&envelope("Deployment", &message(2, &nested(20))), schema).is_ok());
    assert_eq!(to_json(&envelope("Deployment", &message(2, &nested(100))), schema), Err(Malformed::Depth));
}

#[test]
fn what_json_holds_comes_back_from_protobuf() {
    let def = sample::def();
    let value = to_json(&envelope("Deployment", &deployment()), def.schema).unwrap();
    let bytes = from_json(&def.gvk, def.schema, &value).unwrap();
    assert_eq!(to_json(&bytes, def.schema).unwrap(), value);
    for bad in [json!({ "spec": [] }), json!({ "metadata": { "name": 3 } }), json!({ "spec": { "replicas": "x" } })] {
        assert_eq!(from_json(&def.gvk, def.schema, &bad), Err(Unencodable::Mismatch), "{bad}");
    }
    let bad_time = json!({ "metadata": { "creationTimestamp": "yesterday" } });
    assert_eq!(from_json(&def.gvk, def.schema, &bad_time), Err(Unencodable::Time));
    let bad_bytes = json!({ "spec": { "ports": [{ "key": "?" }] } });
    assert_eq!(from_json(&def.gvk, def.schema, &bad_bytes), Err(Unencodable::Base64));
}

#[test]
fn go_writes_what_it_holds_by_value_and_long_lengths() {
    let def = sample::def();
    let bytes = from_json(&def.gvk, def.schema, &json!({})).unwrap();
    // Empty metadata: a name, a time and fields; no labels, no spec.
    let metadata = [message(1, b""), message(3, b""), message(4, b"")].concat();
    assert_eq!(bytes, envelope("Deployment", &message(1, &metadata)));
    let long = "x".repeat(300);
    let bytes = from_json(&def.gvk, def.schema, &json!({ "metadata": { "name": long } })).unwrap();
    let metadata = [message(1, long.as_bytes()), message(3, b""), message(4, b"")].concat();
    assert_eq!(bytes, envelope("Deployment", &message(1, &metadata)));
    let negative = json!({ "spec": { "replicas": -1 } });
    let bytes = from_json(&def.gvk, def.schema, &negative).unwrap();
    assert!(bytes.windows(11).any(|part| part == [0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]));
}

const GO: [(&str, &str); 2] =
    [("content-type", MEDIA_TYPE), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
const PATH: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn ask(server: &ApiServer, method: &str, path: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in GO {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let response = crate::tests::send(server, "alice", request).await;
    let (parts, body) = response.into_parts();
    let media = parts.headers["content-type"].to_str().unwrap().to_owned();
    (parts.status.as_u16(), media, body.collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_go_client_speaks_protobuf_both_ways() {
    let (server, widgets) = crate::tests::server();
    let schema = sample::def().schema;
    let body = envelope("Deployment", &deployment());
    let (code, media, object) = ask(&server, "POST", PATH, &body).await;
    assert_eq!((code, media.as_str()), (201, MEDIA_TYPE));
    let object = to_json(&object, schema).unwrap();
    assert_eq!((&object["metadata"]["name"], &object["spec"]["replicas"]), (&json!("web"), &json!(3)));

    let (code, _, list) = ask(&server, "GET", PATH, b"").await;
    let list_schema = crate::definitions::by_name(schema.table, "io.k8s.api.apps.v1.DeploymentList").unwrap();
    let list = to_json(&list, list_schema).unwrap();
    assert_eq!((code, &list["kind"], &list["items"][0]["spec"]), (200, &json!("DeploymentList"), &object["spec"]));

    // DeleteOptions{dryRun: ["All"]}; the sample's field number is 5, as upstream's.
    let options = envelope("DeleteOptions", &message(5, b"All"));
    let (code, media, status) = ask(&server, "DELETE", &format!("{PATH}/web"), &options).await;
    let status_schema = crate::definitions::by_name(schema.table, crate::definitions::STATUS).unwrap();
    assert_eq!((code, media.as_str()), (200, MEDIA_TYPE));
    assert_eq!(to_json(&status, status_schema).unwrap()["status"], "Success");
    drop(widgets);
    let (code, media, status) = ask(&server, "GET", &format!("{PATH}/web"), b"").await;
    assert_eq!((code, media.as_str()), (404, MEDIA_TYPE));
    assert_eq!(to_json(&status, status_schema).unwrap()["reason"], "NotFound");
}

#[tokio::test]
async fn a_watch_is_frames_with_their_lengths() {
    let (server, widgets) = crate::tests::server();
    let schema = sample::def().schema;
    widgets
        .put("a", json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": { "replicas": 7 } }));
    let request = http::Request::get(format!("{PATH}?watch=1&allowWatchBookmarks=1"))
        .header("accept", "application/vnd.kubernetes.protobuf;stream=watch");
    let response = crate::tests::send(&server, "alice", request.body(Full::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = response.into_body();
    let mut bytes = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    let mut next = || {
        let length = u32::from_be_bytes(*bytes.first_chunk().unwrap()) as usize;
        let event: Vec<u8> = bytes.drain(..4 + length).skip(4).collect();
        let (mut kind, mut object) = (String::new(), Value::Null);
        for field in wire::fields(&event) {
            match field.unwrap() {
                (1, wire) => wire.text().unwrap().clone_into(&mut kind),
                (2, wire) => {
                    let (_, raw) = wire::fields(wire.bytes().unwrap()).next().unwrap().unwrap();
                    object = to_json(raw.bytes().unwrap(), schema).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        (kind, object)
    };
    let (kind, object) = next();
    assert_eq!((kind.as_str(), &object["spec"]["replicas"]), ("ADDED", &json!(7)));
    let (kind, object) = next();
    assert_eq!((kind.as_str(), &object["kind"]), ("BOOKMARK", &json!("Deployment")));
}
