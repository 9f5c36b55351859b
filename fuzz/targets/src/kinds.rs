//! Bodies and patches of every kind, over a store in memory that nothing is written to.

use std::sync::{Arc, LazyLock};

use base_meta::Status;
use base_tasks::Tasks;
use control_resources::{Deps, NodePortRange, ServiceRange};
use machinery_apiserver::protobuf as wire;
use machinery_registry::{
    Answer, CreateOptions, ListOptions, MediaType, Patch, Payload, RequestContext, Resource, UpdateOptions,
};
use machinery_storage::embedded::Embedded;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Every kind, and the runtime that their caches live on.
struct Kinds {
    runtime: Runtime,
    all: Vec<Arc<dyn Resource>>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let all = runtime.block_on(started());
    Kinds { runtime, all }
});

/// What patches are tried on.
fn stored() -> Vec<(&'static str, Value)> {
    let spec = json!({"containers": [
        {"name": "a", "image": "i", "ports": [{"containerPort": 80, "name": "http"}], "env": [{"name": "A", "value": "1"}]},
        {"name": "b", "image": "j", "args": ["x", "y"]}], "tolerations": [{"key": "k", "operator": "Exists"}]});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": spec});
    let schema =
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}});
    vec![
        ("configmaps", json!({"data": {"a": "1", "b": "2"}})),
        ("pods", json!({"spec": spec})),
        ("deployments", json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}})),
        (
            "services",
            json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}),
        ),
        (
            "customresourcedefinitions",
            json!({"metadata": {"name": "web"}, "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "webs", "kind": "Web"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}}),
        ),
    ]
}

async fn started() -> Vec<Arc<dyn Resource>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let deps = Deps {
        storage: Arc::new(Embedded::in_memory().await.expect("a store")),
        admission: Default::default(),
        service_ranges: vec![ServiceRange::parse("10.43.0.0/16").expect("a range")],
        node_ports: NodePortRange::parse("30000-32767").expect("a range"),
        kubelet_tls: Arc::new(tls),
        tasks: Tasks::root("fuzz"),
    };
    let all = control_resources::resources(deps).await.expect("the kinds").all();
    for (plural, mut object) in stored() {
        let resource = all.iter().find(|resource| resource.def().plural == plural).expect("served");
        let name = if plural == "customresourcedefinitions" { "webs.example.com" } else { "web" };
        object["metadata"]["name"] = json!(name);
        let payload = Payload { media: MediaType::Json, bytes: object.to_string().into() };
        let made = resource.create(&context(&**resource), payload, CreateOptions::default()).await;
        made.unwrap_or_else(|status| panic!("{plural}: {}", status.message));
    }
    all
}

fn context(resource: &dyn Resource) -> RequestContext {
    let def = resource.def();
    RequestContext {
        user: Arc::default(),
        gvr: def.gvr(),
        subresource: None,
        namespace: def.namespaced().then(|| "default".into()),
        warnings: Default::default(),
    }
}

/// The first line, in two words, and the rest. What the first word does not name, its letters choose.
fn request(data: &[u8]) -> (&'static Arc<dyn Resource>, &str, &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let line = std::str::from_utf8(&data[..end]).unwrap_or_default();
    let (plural, how) = line.split_once(' ').unwrap_or((line, ""));
    let all = &KINDS.all;
    let chosen = plural.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % all.len();
    let resource = all.iter().find(|resource| resource.def().plural == plural).unwrap_or(&all[chosen]);
    (resource, how, data.get(end + 1..).unwrap_or_default())
}

/// Whatever a client sends is its own fault, but for what upstream answers in the same way: a version that is not there yet, and a
/// configuration that does not fit its schema.
fn fair<T>(answer: Result<T, Status>, what: &str) {
    if let Err(status) = answer {
        let upstreams = status.code == 504 || status.message.starts_with("failed to create typed patch object (");
        assert!(upstreams || (400..500).contains(&status.code), "{what}: {} {}", status.code, status.message);
    }
}

pub fn body(data: &[u8]) {
    let (resource, how, bytes) = request(data);
    let media = if how == "yaml" { MediaType::Yaml } else { MediaType::Json };
    // As the API server has it.
    if std::str::from_utf8(bytes).is_err() {
        return;
    }
    let payload = Payload { media, bytes: bytes.to_vec().into() };
    let options = CreateOptions { dry_run: true, field_manager: Some("fuzz".into()), ..CreateOptions::default() };
    let made = KINDS.runtime.block_on(resource.create(&context(&**resource), payload, options));
    if let Ok(made) = &made {
        let shown = resource.row(&made.object).map(drop);
        fair(shown, "its row");
    }
    fair(made, &resource.def().plural);
}

pub fn patch(data: &[u8]) {
    let (resource, how, bytes) = request(data);
    if std::str::from_utf8(bytes).is_err() {
        return;
    }
    let bytes = bytes.to_vec().into();
    let patch = match how {
        "json" => Patch::Json(bytes),
        "merge" => Patch::Merge(bytes),
        "strategic" => Patch::Strategic(bytes),
        _ => Patch::Apply(bytes),
    };
    let name = if resource.def().plural == "customresourcedefinitions" { "webs.example.com" } else { "web" };
    let options = UpdateOptions {
        dry_run: true,
        field_manager: Some("fuzz".into()),
        force: how == "force",
        ..UpdateOptions::default()
    };
    let answer = KINDS.runtime.block_on(resource.patch(&context(&**resource), name, patch, options));
    if let Ok(Answer::Object(written)) = &answer {
        // What is stored can be read again.
        written.object.to_value().expect("the patched object is JSON");
    }
    fair(answer, &resource.def().plural);
}

pub fn protobuf(data: &[u8]) {
    let (resource, _, bytes) = request(data);
    let def = resource.def();
    let Ok(value) = wire::to_json(bytes, def.schema) else { return };
    // JSON has more values than messages: what of them can be written comes back.
    let Ok(mut conformed) = base_meta::schema::conform(def.schema, value) else { return };
    base_meta::schema::normalise(def.schema, &mut conformed.value);
    let Ok(written) = wire::from_json(&def.gvk, def.schema, &conformed.value) else { return };
    let mut again = wire::to_json(&written, def.schema).expect("its own message");
    base_meta::schema::normalise(def.schema, &mut again);
    let mut once = conformed.value;
    for value in [&mut once, &mut again] {
        value["apiVersion"] = Value::Null;
        value["kind"] = Value::Null;
    }
    assert_eq!(once, again);
}

pub fn continue_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let configs = KINDS.all.iter().find(|resource| resource.def().plural == "configmaps").expect("served");
    for limit in [0, 1] {
        let options = ListOptions { continue_token: text.to_owned(), limit, ..ListOptions::default() };
        fair(KINDS.runtime.block_on(configs.list(&context(&**configs), &options)), "a page");
    }
}
