use std::sync::Arc;

use base_meta::{Gvr, Reason, Status};
use machinery_registry::{
    Admission, Attributes, CreateOptions, FieldValidation, MediaType, Operation, Payload, RequestContext, Resource,
};
use serde_json::{Value, json};

use crate::widget::{payload, setup, setup_with, widget};

#[tokio::test]
async fn the_server_fills_its_fields_and_drops_the_clients_status() {
    let setup = setup().await;
    let mut body = widget("one");
    body["status"] = json!({"phase": "Forged"});
    body["metadata"]["uid"] = "mine".into();
    body["metadata"]["generation"] = 9.into();
    let made = setup.create(body).await;
    let meta = &made["metadata"];
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["generation"], 1);
    assert_eq!(meta["uid"].as_str().unwrap().len(), 36);
    assert_eq!(meta["creationTimestamp"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
    assert_eq!(made["spec"]["replicas"], 1);
    assert!(made["status"]["phase"].is_null());
    assert_eq!(setup.get("one").await.unwrap(), made);
}

#[tokio::test]
async fn a_taken_name_is_refused() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let error = setup.try_create(&widget("one")).await.unwrap_err();
    assert_eq!(error.message, r#"widgets.example.io "one" already exists"#);
    assert_eq!(error.code, 409);
}

#[tokio::test]
async fn generated_names_differ() {
    let setup = setup().await;
    let mut body = widget("");
    body["metadata"] = json!({"generateName": "web-"});
    let (one, two) = (setup.create(body.clone()).await, setup.create(body).await);
    assert!(one["metadata"]["name"].as_str().unwrap().starts_with("web-"));
    assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
}

#[tokio::test]
async fn dry_run_answers_and_stores_nothing() {
    let setup = setup().await;
    let before = setup.revision().await;
    let options = CreateOptions { dry_run: true, ..CreateOptions::default() };
    let made = setup.registry.create(&setup.ctx, payload(&widget("one")), options).await.unwrap();
    assert_eq!(made.object.meta.name.as_ref(), "one");
    assert_eq!(setup.revision().await, before);
    assert!(setup.registry.strategy().allocated.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bad_bodies_are_refused_in_upstreams_words() {
    let setup = setup().await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = widget("one");
        change(&mut body);
        body
    };
    for (body, message) in [
        (
            with(&|body| body["kind"] = "Widgett".into()),
            r#"Widgett in version "v1" cannot be handled as a Widget: no kind "Widgett" is registered for version "example.io/v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            with(&|body| body["kind"] = "Gadget".into()),
            r#"Gadget in version "v1" cannot be handled as a Widget: converting (v1.Gadget) to (v1.Widget): unknown conversion"#,
        ),
        (
            with(&|body| body["apiVersion"] = "example.io/v2".into()),
            r#"Widget in version "v2" cannot be handled as a Widget: no kind "Widget" is registered for version "example.io/v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
        (
            with(&|body| body["metadata"]["namespace"] = "other".into()),
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            with(&|body| body["metadata"]["resourceVersion"] = "7".into()),
            "resourceVersion should not be set on objects to be created",
        ),
    ] {
        let error = setup.try_create(&body).await.unwrap_err();
        assert_eq!((error.reason, error.message.as_str()), (Reason::BadRequest, message));
    }
    for (body, message) in [
        (
            with(&|body| body["spec"]["color"] = "plaid".into()),
            r#"Widget.example.io "one" is invalid: spec.color: Invalid value: "plaid": must be one color"#,
        ),
        (
            with(&|body| body["metadata"] = json!({})),
            r#"Widget.example.io "" is invalid: metadata.name: Required value: name or generateName is required"#,
        ),
    ] {
        let error = setup.try_create(&body).await.unwrap_err();
        assert_eq!((error.reason, error.message.as_str()), (Reason::Invalid, message));
    }
    let garbage = Payload { media: MediaType::Json, bytes: "{\"kind\":".into() };
    let error = setup.registry.create(&setup.ctx, garbage, CreateOptions::default()).await.unwrap_err();
    assert!(error.message.starts_with("the object provided is unrecognized (must be of type Widget): "), "{error}");
    assert!(setup.get("one").await.is_err());
}

#[tokio::test]
async fn unknown_fields_fail_warn_or_vanish() {
    let setup = setup().await;
    let mut body = widget("one");
    body["spec"]["colour"] = "red".into();
    let create = |field_validation| {
        let options = CreateOptions { field_validation, ..CreateOptions::default() };
        setup.registry.create(&setup.ctx, payload(&body), options)
    };
    let error = create(FieldValidation::Strict).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.colour""#
    );
    let made = create(FieldValidation::Warn).await.unwrap();
    assert_eq!(setup.ctx.warnings.take(), [r#"unknown field "spec.colour""#]);
    assert!(made.object.to_value().unwrap()["spec"]["colour"].is_null());
    body["metadata"]["name"] = "two".into();
    let options = CreateOptions { field_validation: FieldValidation::Ignore, ..CreateOptions::default() };
    setup.registry.create(&setup.ctx, payload(&body), options).await.unwrap();
    assert!(setup.ctx.warnings.take().is_empty());
}

#[tokio::test]
async fn a_wrong_type_names_its_field() {
    let setup = setup().await;
    let mut body = widget("one");
    body["spec"]["replicas"] = "three".into();
    let error = setup.try_create(&body).await.unwrap_err();
    assert_eq!(error.code, 400);
    assert!(error.message.starts_with(r#"Widget in version "v1" cannot be handled as a Widget: "#), "{error}");
    assert!(error.message.contains("replicas"), "{error}");
}

#[tokio::test]
async fn yaml_is_read_too() {
    let setup = setup().await;
    let yaml = |text: &'static str| Payload { media: MediaType::Yaml, bytes: text.into() };
    let good = yaml("kind: Widget\napiVersion: example.io/v1\nmetadata:\n  name: one\nspec:\n  color: red\n");
    setup.registry.create(&setup.ctx, good, CreateOptions::default()).await.unwrap();
    let strict = CreateOptions { field_validation: FieldValidation::Strict, ..CreateOptions::default() };
    let twice = yaml("kind: Widget\nmetadata:\n  name: two\nspec:\n  color: red\n  color: blue\n");
    let error = setup.registry.create(&setup.ctx, twice, strict).await.unwrap_err();
    assert!(error.message.contains("strict decoding error"), "{error}");
    let broken = setup.registry.create(&setup.ctx, yaml("a: [b"), CreateOptions::default()).await.unwrap_err();
    assert_eq!(broken.code, 400);
}

struct Painter;

#[async_trait::async_trait]
impl Admission for Painter {
    fn name(&self) -> &'static str {
        "Painter"
    }
    fn handles(&self, gvr: &Gvr, _subresource: Option<&str>, operation: Operation) -> bool {
        gvr.resource == "widgets" && operation == Operation::Create
    }
    async fn mutate(&self, _attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if object["spec"]["color"] == "red" {
            object["spec"]["color"] = "green".into();
        }
        Ok(())
    }
    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        if object.is_some_and(|object| object["spec"]["color"] == "black") {
            return Err(Status::forbidden(attributes.gvr, attributes.name, "black is not for sale"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn admission_changes_and_refuses() {
    let setup = setup_with(Default::default(), vec![Arc::new(Painter)]).await;
    assert_eq!(setup.create(widget("one")).await["spec"]["color"], "green");
    let mut body = widget("two");
    body["spec"]["color"] = "black".into();
    let error = setup.try_create(&body).await.unwrap_err();
    assert_eq!(error.message, r#"widgets.example.io "two" is forbidden: black is not for sale"#);
    assert!(!setup.registry.strategy().allocated.lock().unwrap().contains("two"));
}

#[tokio::test]
async fn of_many_racing_creates_one_wins_and_keeps_its_allocation() {
    let setup = setup().await;
    let body = widget("one");
    let results = futures::future::join_all((0..16).map(|_| setup.try_create(&body))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().flat_map(|result| result.as_ref().err()).all(|error| error.reason == Reason::AlreadyExists));
    setup.get("one").await.unwrap();
}

#[tokio::test]
async fn kinds_may_warn() {
    let setup = setup().await;
    let mut body = widget("one");
    body["spec"]["color"] = "beige".into();
    setup.create(body).await;
    assert_eq!(setup.ctx.warnings.take(), ["spec.color: beige is dull"]);
}

#[tokio::test]
async fn a_namespaced_kind_needs_a_namespace() {
    let setup = setup().await;
    let ctx = RequestContext { namespace: None, ..setup.ctx.clone() };
    let error = setup.registry.create(&ctx, payload(&widget("one")), CreateOptions::default()).await.unwrap_err();
    assert_eq!(error.code, 400);
}
