//! Bodies that are no object: a 4xx Status each, nothing written, and the server goes on.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Http, JSON, PROTOBUF, protobuf, without_node};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

const YAML: &str = "application/yaml";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// As upstream's limit of a request.
const LIMIT: usize = 3 * 1024 * 1024;

#[test]
fn no_bytes_are_the_servers_fault() {
    without_node(async |cluster, connector| {
        all(&connector.connect().await?).await?;
        ensure!(!cluster.log().contains("panicked"), "{}", cluster.log());
        Ok(())
    });
}

fn deployment() -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
        "replicas": 0,
        "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "nginx" }] } },
    } })
}

struct Case {
    what: String,
    method: &'static str,
    path: String,
    media: &'static str,
    body: Vec<u8>,
    code: u16,
    reason: &'static str,
}

async fn all(http: &Http) -> Result<()> {
    http.json("POST", CONFIG_MAPS, &json!({"metadata": {"name": "web"}, "data": {"a": "1"}})).await?.expect(201)?;
    http.json("POST", DEPLOYMENTS, &deployment()).await?.expect(201)?;
    let encoded = http.get(&format!("{DEPLOYMENTS}/web"), PROTOBUF).await?.body.to_vec();
    let before = objects(http).await?;
    let mut cases = bodies(&encoded);
    cases.extend(patches());
    cases.extend(queries());
    let mut wrong = Vec::new();
    for case in &cases {
        let Case { what, method, path, media, body, code, reason } = case;
        let answer = http.request(method, path, &[("content-type", media), ("accept", JSON)], body.clone()).await;
        let answer = answer.with_context(|| what.clone())?;
        let status = answer.value().unwrap_or_default();
        let told = (status["kind"].as_str(), status["reason"].as_str(), status["code"].as_u64());
        if answer.code != *code || told != (Some("Status"), Some(*reason), Some(u64::from(*code))) {
            let text: String = answer.text().chars().take(300).collect();
            wrong.push(format!("{what}: {} {text}, not {code} {reason}", answer.code));
        }
    }
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    ensure!(objects(http).await? == before, "something was written");
    ensure!(http.get("/readyz", JSON).await?.text() == "ok", "it is not ready");
    Ok(())
}

async fn objects(http: &Http) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in [DEPLOYMENTS, CONFIG_MAPS, DEFINITIONS] {
        let list = http.get(path, JSON).await?.expect(200)?;
        for item in list["items"].as_array().context("items")? {
            // A controller may write a status meanwhile.
            all.push(json!([
                item["metadata"]["name"],
                item["metadata"]["generation"],
                item["metadata"]["labels"],
                item["data"]
            ]));
        }
    }
    Ok(all)
}

fn case(what: &str, media: &'static str, body: impl Into<Vec<u8>>, code: u16, reason: &'static str) -> Case {
    Case { what: what.to_owned(), method: "POST", path: DEPLOYMENTS.to_owned(), media, body: body.into(), code, reason }
}

fn bodies(encoded: &[u8]) -> Vec<Case> {
    let refused = |what: &str, media, body: Vec<u8>| case(what, media, body, 400, "BadRequest");
    let whole = deployment().to_string();
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let mut cases = vec![
        case("too large", JSON, vec![b' '; LIMIT + 1], 413, "RequestEntityTooLarge"),
        case("too large, in protobuf", PROTOBUF, vec![0; LIMIT + 1], 413, "RequestEntityTooLarge"),
        case("an image", "image/png", "\u{89}PNG", 415, "UnsupportedMediaType"),
        case("a form", "application/x-www-form-urlencoded", "a=b", 415, "UnsupportedMediaType"),
        case("CBOR", "application/cbor", vec![0xa0], 415, "UnsupportedMediaType"),
        refused("nothing", JSON, Vec::new()),
        refused("no object", JSON, b"[]".to_vec()),
        refused("a text", JSON, b"\"Deployment\"".to_vec()),
        case("null", JSON, "null", 422, "Invalid"),
        refused("two objects", JSON, format!("{whole}{whole}").into()),
        refused(
            "not UTF-8",
            JSON,
            whole
                .replace("nginx", "NGINX")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == b'N' { 0xff } else { *byte })
                .collect(),
        ),
        refused("not UTF-8, in YAML", YAML, b"kind: \xff\xfe".to_vec()),
        refused("half a surrogate", JSON, whole.replace("nginx", "\\ud800").into()),
        refused("a control character", JSON, whole.replace("nginx", "a\u{1}b").into()),
        refused("UTF-16", JSON, whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        refused("a number too large", JSON, whole.replace("\"replicas\":0", "\"replicas\":1e999").into()),
        refused("a number of no integer", JSON, whole.replace("\"replicas\":0", "\"replicas\":0.5").into()),
        refused("a number of 64 bits", JSON, whole.replace("\"replicas\":0", "\"replicas\":4294967296").into()),
        refused("lists in lists", JSON, nested("[", "]", 500_000).into()),
        refused("objects in objects", JSON, nested("{\"a\":", "}", 200_000).into()),
        refused(
            "lists in a field",
            JSON,
            whole.replace("\"replicas\":0", &format!("\"replicas\":{}", nested("[", "]", 100_000))).into(),
        ),
        refused("brackets that stay open", JSON, "[".repeat(1_000_000).into()),
        refused("YAML in YAML", YAML, nested("[", "]", 100_000).into()),
        refused(
            "YAML by indentation",
            YAML,
            (0..1500).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>().into(),
        ),
        refused("YAML of a tab", YAML, b"a:\n\tb: c".to_vec()),
        refused("an anchor that is not there", YAML, b"kind: *nothing".to_vec()),
        refused("laughs", YAML, laughs().into()),
        refused("another kind", JSON, whole.replace("\"Deployment\"", "\"ReplicaSet\"").into()),
        refused("another version", JSON, whole.replace("apps/v1", "apps/v1beta1").into()),
        refused(
            "another namespace",
            JSON,
            whole.replace("\"name\":\"web\"", "\"name\":\"new\",\"namespace\":\"kube-system\"").into(),
        ),
        // Nothing is unpacked here.
        refused(
            "gzip",
            JSON,
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0],
        ),
        refused("JSON as protobuf", PROTOBUF, whole.clone().into()),
        refused("protobuf as JSON", JSON, encoded.to_vec()),
        refused("the prefix cut short", PROTOBUF, b"k8s".to_vec()),
        refused(
            "protobuf of noise",
            PROTOBUF,
            [b"k8s\0".to_vec(), (0..200u8).map(|n| n.wrapping_mul(73)).collect()].concat(),
        ),
        refused("protobuf in protobuf", PROTOBUF, deep_message()),
    ];
    for end in (1..whole.len()).step_by(9) {
        cases.push(refused(&format!("cut after {end} bytes"), JSON, whole.as_bytes()[..end].to_vec()));
    }
    // The last four bytes say that nothing more is encoded.
    for end in (4..encoded.len() - 4).step_by(3) {
        // Cut between the type and the object, a message is whole, and of an object without anything.
        let empty = end < 60
            && [encoded[..end].to_vec(), vec![0x12, 0]].concat().starts_with(&encoded[..end])
            && is_whole(&encoded[..end]);
        if !empty {
            cases.push(refused(&format!("protobuf cut after {end} bytes"), PROTOBUF, encoded[..end].to_vec()));
        }
    }
    cases
}

/// Whether a cut envelope ends between two fields.
fn is_whole(envelope: &[u8]) -> bool {
    let type_meta = envelope.get(5).map_or(usize::MAX, |length| usize::from(*length) + 6);
    envelope.len() == 4 || envelope.len() == type_meta
}

/// Ten times ten times ten.
fn laughs() -> String {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 10].join(", ");
        text += &format!("a{n}: &a{n} [{inner}]\n");
    }
    text
}

/// A definition's schema whose property has a schema whose property …
fn deep_message() -> Vec<u8> {
    let field = |number: u8, value: &[u8]| {
        let mut out = Vec::new();
        protobuf::put(&mut out, number, value);
        out
    };
    // Field 13 is `not`.
    let mut schema = Vec::new();
    for _ in 0..10_000 {
        schema = field(13, &schema);
    }
    let version = field(4, &field(1, &schema));
    let definition = field(2, &field(7, &version));
    let type_meta = [field(1, b"apiextensions.k8s.io/v1"), field(2, b"CustomResourceDefinition")].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &definition)].concat()
}

fn patches() -> Vec<Case> {
    let patch = |what: &str, media, body: String, code, reason| Case {
        method: "PATCH",
        path: format!("{CONFIG_MAPS}/web?fieldManager=test"),
        ..case(what, media, body, code, reason)
    };
    let grow: Vec<Value> = (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/x{n}")})).collect();
    let mut nest = json!("deep");
    for _ in 0..100 {
        nest = json!({"a": nest});
    }
    let deep: Vec<Value> = (0..100)
        .map(|n| json!({"op": "add", "path": format!("/data{}", "/a".repeat(n * 100)), "value": nest}))
        .collect();
    let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"})).collect();
    let nested = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let definition = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}});
    vec![
        patch("a patch as an object", JSON, "{}".into(), 415, "UnsupportedMediaType"),
        patch("a patch too large", MERGE_PATCH, " ".repeat(LIMIT + 1), 413, "RequestEntityTooLarge"),
        patch("no list of operations", JSON_PATCH, "{}".into(), 400, "BadRequest"),
        patch("an operation that is none", JSON_PATCH, r#"[{"op":"grow","path":"/a"}]"#.into(), 400, "BadRequest"),
        patch("too many operations", JSON_PATCH, json!(many).to_string(), 413, "RequestEntityTooLarge"),
        patch("copies of copies", JSON_PATCH, json!(grow).to_string(), 422, "Invalid"),
        patch("operations that nest", JSON_PATCH, json!(deep).to_string(), 422, "Invalid"),
        patch("a path that leads nowhere", JSON_PATCH, r#"[{"op":"remove","path":"/data/zz"}]"#.into(), 422, "Invalid"),
        patch(
            "a test that fails",
            JSON_PATCH,
            r#"[{"op":"test","path":"/data/a","value":"2"}]"#.into(),
            422,
            "Invalid",
        ),
        patch("nothing to merge", MERGE_PATCH, "[]".into(), 400, "BadRequest"),
        patch("merge cut short", MERGE_PATCH, r#"{"data":"#.into(), 400, "BadRequest"),
        patch("merge that nests", MERGE_PATCH, nested(100_000), 400, "BadRequest"),
        patch("a directive that is none", STRATEGIC_PATCH, r#"{"data":{"$patch":"grow"}}"#.into(), 400, "BadRequest"),
        patch(
            "a directive of a wrong type",
            STRATEGIC_PATCH,
            r#"{"$setElementOrder/data":1}"#.into(),
            400,
            "BadRequest",
        ),
        patch("strategic that nests", STRATEGIC_PATCH, nested(100_000), 400, "BadRequest"),
        patch("nothing applied", APPLY_PATCH, String::new(), 400, "BadRequest"),
        patch("a list applied", APPLY_PATCH, "[a]".into(), 400, "BadRequest"),
        patch("laughs applied", APPLY_PATCH, laughs(), 400, "BadRequest"),
        patch("applied that nests", APPLY_PATCH, nested(100_000), 400, "BadRequest"),
        Case {
            path: format!("{CONFIG_MAPS}/web"),
            ..patch("applied by nobody", APPLY_PATCH, definition.to_string(), 422, "Invalid")
        },
        Case {
            method: "DELETE",
            ..patch("options too large", JSON, " ".repeat(LIMIT + 1), 413, "RequestEntityTooLarge")
        },
        Case { method: "DELETE", ..patch("options that nest", JSON, "[".repeat(100_000), 400, "BadRequest") },
        Case {
            method: "DELETE",
            ..patch("options of protobuf noise", PROTOBUF, "k8s\0\u{7f}\u{7f}".into(), 400, "BadRequest")
        },
        Case {
            method: "PUT",
            ..patch("another name", JSON, definition.to_string().replace("web", "other"), 400, "BadRequest")
        },
    ]
}

fn queries() -> Vec<Case> {
    let get = |what: &str, query: &str, code, reason| Case {
        method: "GET",
        path: format!("{CONFIG_MAPS}?{query}"),
        ..case(what, JSON, "", code, reason)
    };
    let brackets = "(".repeat(2000);
    vec![
        get("a selector of brackets", &format!("labelSelector=a+in+{brackets}"), 400, "BadRequest"),
        get("a selector without an end", "labelSelector=a+in+(b", 400, "BadRequest"),
        get("a label that is none", "labelSelector=a%2Fb%2Fc%3Dd", 400, "BadRequest"),
        get("a field that is none", "fieldSelector=data.a%3D1", 400, "BadRequest"),
        get("a field without a value", "fieldSelector=metadata.name", 400, "BadRequest"),
        get("a limit of letters", "limit=one", 400, "BadRequest"),
        get("a limit too large", "limit=99999999999999999999", 400, "BadRequest"),
        get("a token of noise", "continue=%25%25%25", 400, "BadRequest"),
        get("a token that is no JSON", "continue=aGVsbG8", 400, "BadRequest"),
        // {"v":"meta.k8s.io/v1","rv":1,"start":"../../secrets/x"}
        get(
            "a token of another place",
            "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9zZWNyZXRzL3gifQ",
            400,
            "BadRequest",
        ),
        get("a version of letters", "resourceVersion=new", 400, "BadRequest"),
        get("a version below zero", "resourceVersion=-1", 400, "BadRequest"),
        get("an exact match of no version", "resourceVersionMatch=Exact", 422, "Invalid"),
        get("initial events of a list", "sendInitialEvents=true", 422, "Invalid"),
        get("bytes that are no text", "labelSelector=%ff", 400, "BadRequest"),
        get("a watch from a version of letters", "watch=true&resourceVersion=new", 400, "BadRequest"),
        get("a time of letters", "watch=true&timeoutSeconds=soon", 400, "BadRequest"),
        Case { path: format!("{CONFIG_MAPS}/{}", "x".repeat(300)), ..get("a name too long", "", 404, "NotFound") },
        Case { path: format!("{CONFIG_MAPS}/..%2F..%2Fsecrets"), ..get("a name of a path", "", 404, "NotFound") },
        Case {
            path: "/api/v1/namespaces/UPPER/configmaps/a".into(),
            ..get("a namespace of no such name", "", 404, "NotFound")
        },
        Case {
            path: "/apis/apps/v1/namespaces/default/configmaps".into(),
            ..get("another group", "", 404, "NotFound")
        },
    ]
}
