#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;
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
    assert_eq!(to_json(b"{}", schema).unwrap_err().code, 400);
    for end in 0..whole.len() {
        // A cut between two fields is a shorter message; any other is an error.
        let _ = to_json(&whole[..end], schema);
    }
    for at in MAGIC.len()..whole.len() {
        for bit in 0..8 {
            let mut broken = whole.clone();
            broken[at] ^= 1 << bit;
            if let Err(status) = to_json(&broken, schema) {
                assert_eq!(status.code, 400);
            }
        }
    }
    let nested = |times: usize| (0..times).fold(Vec::new(), |inner, _| message(5, &inner));
    assert!(to_json(&envelope("Deployment", &message(2, &nested(20))), schema).is_ok());
    assert_eq!(to_json(&envelope("Deployment", &message(2, &nested(100))), schema).unwrap_err().code, 400);
}

#[tokio::test]
async fn a_create_may_be_protobuf_and_is_answered_as_json() {
    let (server, _) = crate::tests::server();
    let headers = [("content-type", MEDIA_TYPE), ("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let body = envelope("Deployment", &deployment());
    let (code, object) = crate::tests::ask(&server, "POST", path, &headers, &body).await;
    assert_eq!((code, &object["metadata"]["name"], &object["spec"]["replicas"]), (201, &json!("web"), &json!(3)));

    // DeleteOptions{dryRun: ["All"]}; the sample's field number is 5, as upstream's.
    let options = envelope("DeleteOptions", &message(5, b"All"));
    let (code, status) = crate::tests::ask(&server, "DELETE", &format!("{path}/web"), &headers, &options).await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
}
