//! A kind defined at run time: a schema that nobody compiled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_meta::field::{Error as FieldError, Path};
use base_meta::selector::FieldSelector;
use base_meta::{Gvk, Gvr, Reason, Status};
use futures::StreamExt as _;
use machinery_registry::custom::{Step, Topology};
use machinery_registry::resource::{Answer, WatchEvent};
use machinery_registry::{
    Chain, CreateOptions, Custom, CustomSchema, DeleteOptions, FieldValidation, ListOptions, MediaType, Patch, Payload,
    Registry, Renamed, RequestContext, Resource, ResourceDef, ScalePaths, Scope, Strategy, SubresourceDef,
    UpdateOptions, Verb, View, intern, intern_texts, migrate,
};
use machinery_storage::embedded::Embedded;
use machinery_storage::{Expect, Op, Storage};
use serde_json::{Value, json};

use crate::widget::{STRICT, json_patch, merge, payload, strategic};

/// Knows `spec.size` and `spec.count`, which is 3 unless said.
#[derive(Debug)]
struct Sizes;

impl CustomSchema for Sizes {
    fn validate(&self, object: &Value, _: Option<&Value>) -> Vec<FieldError> {
        let size = &object["spec"]["size"];
        let odd = || FieldError::invalid(&Path::new("spec").child("size"), size, "is odd");
        if size == "odd" { vec![odd()] } else { Vec::new() }
    }

    fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        let mut keep = |value: &mut Value, path: &str, known: &[&str]| {
            if let Some(map) = value.as_object_mut() {
                unknown.extend(
                    map.keys().filter(|name| !known.contains(&name.as_str())).map(|name| format!("{path}{name}")),
                );
                map.retain(|name, _| known.contains(&name.as_str()));
            }
        };
        keep(object, "", &["apiVersion", "kind", "metadata", "spec", "status"]);
        keep(&mut object["spec"], "spec.", &["size", "count"]);
        unknown
    }

    fn default(&self, object: &mut Value) {
        if let Some(spec) = object["spec"].as_object_mut() {
            spec.entry("count").or_insert(3.into());
        }
    }

    fn has_defaults(&self) -> bool {
        true
    }

    fn topology(&self, path: &[Step<'_>]) -> Topology {
        if path.len() < 2 { Topology::Granular } else { Topology::Atomic }
    }
}

struct Gizmos {
    kind: String,
}

impl Strategy for Gizmos {
    type Object = Custom;

    fn def(&self) -> ResourceDef {
        let gvk = Gvk { group: "example.io".into(), version: "v2".into(), kind: self.kind.clone().into() };
        let sub = |name, gvk| SubresourceDef { name, gvk, verbs: &[Verb::Get, Verb::Patch, Verb::Update] };
        ResourceDef {
            plural: format!("{}s", self.kind.to_lowercase()).into(),
            singular: self.kind.to_lowercase().into(),
            short_names: intern_texts(["gz"]),
            categories: &[],
            scope: Scope::Namespaced,
            verbs: Verb::ALL,
            subresources: vec![sub("status", gvk.clone()), sub("scale", Gvk::of("autoscaling", "v1", "Scale"))],
            columns: &[],
            fields: intern_texts([".spec.size"]),
            answers_deleted: true,
            deprecation: None,
            published: None,
            stored_as: None,
            schema: crate::schema::CUSTOM,
            gvk,
        }
    }

    fn custom_schema(&self) -> Option<Arc<dyn CustomSchema>> {
        Some(Arc::new(Sizes))
    }

    fn scale_paths(&self) -> ScalePaths {
        ScalePaths { spec_replicas: ".spec.count".into(), status_replicas: ".status.count".into(), selector: None }
    }

    fn default(&self, object: &mut Custom) {
        if let Some(spec) = object.content.get_mut("spec").and_then(Value::as_object_mut) {
            spec.entry("count").or_insert(3.into());
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn validate(&self, _: &RequestContext, object: &Custom) -> Vec<FieldError> {
        match object.content.get("spec").and_then(|spec| spec.get("size")) {
            None | Some(Value::String(_)) => Vec::new(),
            Some(other) => vec![FieldError::invalid(&Path::new("spec").child("size"), other, "must be of type string")],
        }
    }

    fn selectable(&self, object: &Custom) -> Vec<(&'static str, String)> {
        let size = object.content.get("spec").and_then(|spec| spec["size"].as_str()).unwrap_or_default();
        vec![(intern(".spec.size"), size.to_owned())]
    }

    fn row(&self, object: &Custom) -> Vec<Value> {
        vec![object.metadata.name.clone().into()]
    }
}

struct Setup {
    registry: Arc<Registry<Gizmos>>,
    ctx: RequestContext,
}

async fn setup() -> Setup {
    let storage: Arc<dyn Storage> = Arc::new(Embedded::in_memory().await.unwrap());
    let gizmos = Gizmos { kind: "Gizmo".into() };
    let registry = Registry::start(gizmos, storage, Chain::default(), BTreeMap::new()).await.unwrap();
    let ctx = RequestContext {
        user: Default::default(),
        gvr: Gvr::of("example.io", "v2", "gizmos"),
        subresource: None,
        namespace: Some("default".into()),
        warnings: Default::default(),
    };
    Setup { registry, ctx }
}

fn gizmo(name: &str) -> Value {
    json!({"apiVersion": "example.io/v2", "kind": "Gizmo", "metadata": {"name": name}, "spec": {"size": "big"}})
}

impl Setup {
    async fn create(&self, body: Payload, field_validation: FieldValidation) -> Result<Value, Status> {
        let options = CreateOptions { field_validation, ..CreateOptions::default() };
        Ok(self.registry.create(&self.ctx, body, options).await?.object.to_value().unwrap())
    }

    async fn patch(&self, patch: Patch) -> Result<Value, Status> {
        match self.registry.patch(&self.ctx, "one", patch, STRICT).await? {
            Answer::Object(written) => Ok(written.object.to_value().unwrap()),
            Answer::Value(value) => Ok(value),
        }
    }
}

#[tokio::test]
async fn its_objects_are_decoded_defaulted_and_validated_by_its_own_schema() {
    let setup = setup().await;
    let made = setup.create(payload(&gizmo("one")), FieldValidation::Strict).await.unwrap();
    assert_eq!(made["spec"], json!({"size": "big", "count": 3}));
    assert_eq!(made["metadata"]["generation"], 1);

    let text = r#"{"kind":"Gizmo","metadata":{"name":"two","nam":1},"spec":{"size":"a","size":"b","sise":1},"x":{}}"#;
    let body = || Payload { media: MediaType::Json, bytes: text.into() };
    let error = setup.create(body(), FieldValidation::Strict).await.unwrap_err();
    assert_eq!(
        error.message,
        concat!(
            r#"Gizmo in version "v2" cannot be handled as a Gizmo: strict decoding error: duplicate field "spec.size", "#,
            r#"unknown field "metadata.nam", unknown field "x", unknown field "spec.sise""#
        )
    );
    let made = setup.create(body(), FieldValidation::Warn).await.unwrap();
    assert_eq!(setup.ctx.warnings.take().len(), 4);
    assert_eq!((&made["spec"], made.get("x")), (&json!({"size": "b", "count": 3}), None));

    let mut wrong = gizmo("three");
    wrong["spec"]["size"] = 7.into();
    let error = setup.create(payload(&wrong), FieldValidation::Strict).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"Gizmo.example.io "three" is invalid: spec.size: Invalid value: 7: must be of type string"#
    );
    for (bad, code) in [
        (r#"{"kind":"Gizmo","metadata":{"labels":1}}"#, 400),
        (r#"{"kind":"Gizmo","metadata":"x"}"#, 400),
        (r#"{"kind":"Gizmo","#, 400),
        (r#"[]"#, 400),
        (r#"{"kind":"Widget","apiVersion":"example.io/v2","metadata":{"name":"x"}}"#, 400),
    ] {
        let body = Payload { media: MediaType::Json, bytes: bad.into() };
        assert_eq!(setup.create(body, FieldValidation::Warn).await.unwrap_err().code, code, "{bad}");
    }
    let yaml = Payload { media: MediaType::Yaml, bytes: "kind: Gizmo\nmetadata: {name: y}\nspec: {sise: 1}".into() };
    setup.create(yaml, FieldValidation::Strict).await.unwrap_err();
}

#[tokio::test]
async fn it_is_patched_selected_and_scaled_as_any_kind() {
    let setup = setup().await;
    setup.create(payload(&gizmo("one")), FieldValidation::Strict).await.unwrap();
    let patched = setup.patch(merge(json!({"spec": {"size": "small"}}))).await.unwrap();
    assert_eq!((&patched["spec"]["size"], &patched["metadata"]["generation"]), (&json!("small"), &json!(2)));
    let patch = json_patch(json!([{"op": "add", "path": "/spec/count", "value": 4}]));
    assert_eq!(setup.patch(patch).await.unwrap()["spec"]["count"], 4);
    assert_eq!(setup.patch(strategic(json!({}))).await.unwrap_err().reason, Reason::UnsupportedMediaType);
    assert!(setup.patch(merge(json!({"spec": {"sise": 1}}))).await.unwrap_err().message.contains("spec.sise"));

    let fields = FieldSelector::parse(".spec.size=small").unwrap();
    let small = ListOptions { fields, ..ListOptions::default() };
    assert_eq!(setup.registry.list(&setup.ctx, &small).await.unwrap().items.len(), 1);
    let scale = RequestContext { subresource: Some("scale".into()), ..setup.ctx.clone() };
    let patch = merge(json!({"spec": {"replicas": 9}}));
    setup.registry.patch(&scale, "one", patch, UpdateOptions::default()).await.unwrap();
    assert_eq!(setup.registry.get_typed(&setup.ctx, "one").await.unwrap().content["spec"]["count"], 9);
}

#[tokio::test]
async fn its_versions_may_differ_in_name_alone() {
    let setup = setup().await;
    setup.create(payload(&gizmo("one")), FieldValidation::Strict).await.unwrap();
    let def = setup.registry.strategy().def();
    let def = ResourceDef { gvk: Gvk::of("example.io", "v1", "Gizmo"), ..def };
    let view = View::new(setup.registry.core().clone(), def, Some(Arc::new(Sizes)), Arc::new(Renamed));
    let seen = view.get(&setup.ctx, "one", "").await.unwrap().to_value().unwrap();
    assert_eq!((&seen["apiVersion"], &seen["spec"]["size"]), (&json!("example.io/v1"), &json!("big")));
    let mut body = gizmo("two");
    body["apiVersion"] = "example.io/v1".into();
    view.create(&setup.ctx, payload(&body), CreateOptions::default()).await.unwrap();
    assert_eq!(setup.registry.get_typed(&setup.ctx, "two").await.unwrap().api_version, "example.io/v2");
}

#[tokio::test]
async fn another_version_is_judged_by_its_own_schema() {
    let setup = setup().await;
    let sized = |name: &str, size: &str| {
        let mut gizmo = gizmo(name);
        gizmo["spec"]["size"] = size.into();
        gizmo
    };
    // The stored one has no such rule.
    setup.create(payload(&sized("one", "odd")), FieldValidation::Strict).await.unwrap();
    let def = setup.registry.strategy().def();
    let def = ResourceDef { gvk: Gvk::of("example.io", "v1", "Gizmo"), ..def };
    let view = View::new(setup.registry.core().clone(), def, Some(Arc::new(Sizes)), Arc::new(Renamed));
    let body = |name: &str, size: &str| {
        let mut body = sized(name, size);
        body["apiVersion"] = "example.io/v1".into();
        payload(&body)
    };
    let options = UpdateOptions::default;
    view.create(&setup.ctx, body("two", "big"), CreateOptions::default()).await.unwrap();
    let refused = [
        view.create(&setup.ctx, body("three", "odd"), CreateOptions::default()).await.map(drop),
        view.update(&setup.ctx, "two", body("two", "odd"), options()).await.map(drop),
        view.patch(&setup.ctx, "two", merge(json!({"spec": {"size": "odd"}})), options()).await.map(drop),
    ];
    for answer in refused {
        let status = answer.unwrap_err();
        assert_eq!((status.code, &status.reason), (422, &Reason::Invalid), "{}", status.message);
        assert!(status.message.contains("spec.size: Invalid value: \"odd\": is odd"), "{}", status.message);
    }
    assert_eq!(setup.registry.get_typed(&setup.ctx, "two").await.unwrap().content["spec"]["size"], "big");
}

#[tokio::test]
async fn a_kind_that_is_stopped_ends_its_watches() {
    let setup = setup().await;
    let mut stopped = setup.registry.watch(&setup.ctx, &ListOptions::default()).await.unwrap();
    setup.registry.core().stop();
    assert!(stopped.next().await.is_none());

    let setup = self::setup().await;
    setup.create(payload(&gizmo("one")), FieldValidation::Strict).await.unwrap();
    let mut dropped = setup.registry.watch(&setup.ctx, &ListOptions::default()).await.unwrap();
    assert!(matches!(dropped.next().await, Some(WatchEvent::Added(_))));
    setup.registry.delete(&setup.ctx, "one", DeleteOptions::default()).await.unwrap();
    assert!(matches!(dropped.next().await, Some(WatchEvent::Deleted(_))));
    drop(setup);
    assert!(dropped.next().await.is_none());
}

#[tokio::test]
async fn what_was_stored_before_a_default_was_declared_reads_as_if_it_had_been() {
    let storage: Arc<dyn Storage> = Arc::new(Embedded::in_memory().await.unwrap());
    let mut before = gizmo("one");
    before["metadata"]["namespace"] = "default".into();
    before["metadata"]["uid"] = "1".into();
    let key = "/registry/example.io/gizmos/default/one";
    let stored = storage.write(key, Expect::Absent, Op::Put(before.to_string().into())).await.unwrap();
    let gizmos = Gizmos { kind: "Gizmo".into() };
    let registry = Registry::start(gizmos, storage, Chain::default(), BTreeMap::new()).await.unwrap();
    let setup = Setup { registry, ..setup().await };
    let read = setup.registry.get(&setup.ctx, "one", "").await.unwrap();
    assert_eq!(read.to_value().unwrap()["spec"], json!({"size": "big", "count": 3}));
    assert_eq!(read.revision, stored, "nothing was written");
    let patched = setup.patch(merge(json!({"spec": {"size": "small"}}))).await.unwrap();
    assert_eq!(patched["spec"], json!({"size": "small", "count": 3}));
}

#[tokio::test]
async fn what_is_stored_follows_a_change_of_the_stored_version() {
    let storage: Arc<dyn Storage> = Arc::new(Embedded::in_memory().await.unwrap());
    let start = async || {
        let gizmos = Gizmos { kind: "Gizmo".into() };
        Registry::start(gizmos, storage.clone(), Chain::default(), BTreeMap::new()).await.unwrap()
    };
    let setup = Setup { registry: start().await, ..setup().await };
    for name in ["one", "two"] {
        setup.create(payload(&gizmo(name)), FieldValidation::Strict).await.unwrap();
    }
    let def = setup.registry.strategy().def();
    let older = ResourceDef { gvk: Gvk::of("example.io", "v1", "Gizmo"), ..def.clone() };
    assert_eq!(migrate(&*storage, &older, &Renamed).await.unwrap(), 2);
    assert_eq!(migrate(&*storage, &older, &Renamed).await.unwrap(), 0);
    assert_eq!(start().await.get_typed(&setup.ctx, "one").await.unwrap().api_version, "example.io/v1");
    assert_eq!(migrate(&*storage, &def, &Renamed).await.unwrap(), 2);
}
