//! Widgets in a second version, where the color is a colour.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base_meta::selector::FieldSelector;
use base_meta::{GroupVersion, Gvk, Gvr, Reason, Status};
use futures::StreamExt as _;
use machinery_registry::request::Propagation;
use machinery_registry::resource::{Deleted, WatchEvent, Written};
use machinery_registry::{
    Conversion, CreateOptions, DeleteOptions, ListOptions, Patch, RequestContext, Resource, ResourceDef, Strategy as _,
    UpdateOptions, View,
};
use serde_json::{Value, json};

use crate::schema;
use crate::widget::{STRICT, Setup, json_patch, merge, object, payload, setup, setup_with, strategic, widget};

#[derive(Debug, Default)]
struct Colours {
    converted: AtomicUsize,
}

#[async_trait::async_trait]
impl Conversion for Colours {
    async fn convert(&self, mut objects: Vec<Value>, to: &GroupVersion) -> Result<Vec<Value>, Status> {
        self.converted.fetch_add(objects.len(), Ordering::Relaxed);
        let (from, into) = if to.version == "v1" { ("colour", "color") } else { ("color", "colour") };
        for object in &mut objects {
            object["apiVersion"] = to.to_string().into();
            if object["spec"][from] == "unspeakable" {
                return Err(Status::internal("that color has no old name"));
            }
            if let Some(spec) = object["spec"].as_object_mut()
                && let Some(color) = spec.remove(from)
            {
                spec.insert(into.into(), color);
            }
        }
        Ok(objects)
    }

    fn field<'a>(&self, field: &'a str) -> Cow<'a, str> {
        if field == "spec.colour" { Cow::Owned("spec.color".into()) } else { field.into() }
    }
}

pub(crate) struct Both {
    pub(crate) new: Setup,
    pub(crate) old: Arc<View>,
    conversion: Arc<Colours>,
    ctx: RequestContext,
}

async fn both() -> Both {
    over(setup().await)
}

pub(crate) fn over(new: Setup) -> Both {
    let stored = new.registry.strategy().def();
    let gvk = Gvk::of("example.io", "v1beta1", "Widget");
    let def = ResourceDef { gvk, fields: &["spec.colour"], schema: schema::OLD_WIDGET, ..stored };
    let conversion = Arc::new(Colours::default());
    let old = View::new(new.registry.core().clone(), def, None, conversion.clone());
    let ctx = RequestContext { gvr: Gvr::of("example.io", "v1beta1", "widgets"), ..new.ctx.clone() };
    Both { new, old, conversion, ctx }
}

fn old_widget(name: &str) -> Value {
    let mut value = widget(name);
    value["apiVersion"] = "example.io/v1beta1".into();
    value["spec"] = json!({"colour": "red", "parts": [{"name": "a", "image": "one"}]});
    value
}

impl Both {
    async fn create_old(&self, value: &Value) -> Result<Value, Status> {
        let Written { object, .. } = self.old.create(&self.ctx, payload(value), CreateOptions::default()).await?;
        Ok(object.to_value().unwrap())
    }

    async fn get_old(&self, name: &str) -> Value {
        self.old.get(&self.ctx, name, "").await.unwrap().to_value().unwrap()
    }

    async fn patch_old(&self, name: &str, patch: Patch) -> Result<Value, Status> {
        self.old.patch(&self.ctx, name, patch, STRICT).await.map(object)
    }
}

#[tokio::test]
async fn each_version_reads_what_the_other_wrote() {
    let both = both().await;
    let made = both.create_old(&old_widget("one")).await.unwrap();
    assert_eq!(made["apiVersion"], "example.io/v1beta1");
    assert_eq!(made["spec"], json!({"colour": "red", "replicas": 1, "parts": [{"name": "a", "image": "one"}]}));
    let stored = both.new.get("one").await.unwrap();
    assert_eq!((&stored["apiVersion"], &stored["spec"]["color"]), (&json!("example.io/v1"), &json!("red")));
    assert_eq!(stored["metadata"], made["metadata"]);

    let mut body = stored.clone();
    body["spec"]["color"] = "blue".into();
    both.new.update("one", &body).await.unwrap();
    let seen = both.get_old("one").await;
    assert_eq!((&seen["spec"]["colour"], &seen["metadata"]["generation"]), (&json!("blue"), &json!(2)));
    // The version both share is the one to send back.
    let mut stale = made;
    stale["spec"]["colour"] = "green".into();
    let update = |value: Value| both.old.update(&both.ctx, "one", payload(&value), STRICT);
    assert_eq!(update(stale.clone()).await.unwrap_err().reason, Reason::Conflict);
    stale["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"].clone();
    let updated = update(stale).await.map(object).unwrap();
    assert_eq!(updated["spec"]["colour"], "green");
    assert_eq!(both.new.get("one").await.unwrap()["spec"]["color"], "green");
}

#[tokio::test]
async fn bodies_follow_the_schema_of_their_version() {
    let both = both().await;
    let mut body = old_widget("one");
    body["spec"]["color"] = "red".into();
    let options = CreateOptions { field_validation: STRICT.field_validation, ..CreateOptions::default() };
    let error = both.old.create(&both.ctx, payload(&body), options).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"Widget in version "v1beta1" cannot be handled as a Widget: strict decoding error: unknown field "spec.color""#
    );
    let error = both.create_old(&widget("one")).await.unwrap_err();
    assert_eq!(
        error.message,
        "the API version in the data (example.io/v1) does not match the expected API version (example.io/v1beta1)"
    );
    let mut body = old_widget("one");
    body["spec"]["colour"] = "plaid".into();
    assert_eq!(both.create_old(&body).await.unwrap_err().reason, Reason::Invalid);
}

#[tokio::test]
async fn patches_are_of_the_document_that_its_version_shows() {
    let both = both().await;
    both.new.create(widget("one")).await;
    let patched = both.patch_old("one", merge(json!({"spec": {"colour": "blue"}}))).await.unwrap();
    assert_eq!((&patched["spec"]["colour"], &patched["spec"]["color"]), (&json!("blue"), &Value::Null));
    let replace = json_patch(json!([{"op": "replace", "path": "/spec/colour", "value": "green"}]));
    assert_eq!(both.patch_old("one", replace).await.unwrap()["spec"]["colour"], "green");
    let part = strategic(json!({"spec": {"parts": [{"name": "b", "image": "two"}]}}));
    let patched = both.patch_old("one", part).await.unwrap();
    assert_eq!(patched["spec"]["parts"], json!([{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]));
    assert_eq!(both.new.get("one").await.unwrap()["spec"]["color"], "green");

    let error = both.patch_old("one", merge(json!({"spec": {"color": "blue"}}))).await.unwrap_err();
    assert!(error.message.contains(r#"unknown field "spec.color""#), "{error}");
    let same = both.new.revision().await;
    both.patch_old("one", merge(json!({"spec": {"colour": "green"}}))).await.unwrap();
    assert_eq!(both.new.revision().await, same);
}

#[tokio::test]
async fn lists_select_by_the_versions_own_fields_and_convert_once() {
    let both = both().await;
    for name in ["a", "b", "c"] {
        both.new.create(widget(name)).await;
    }
    both.new.patch("b", merge(json!({"spec": {"color": "blue"}}))).await.unwrap();
    let list = async |text: &str| {
        let options = ListOptions { fields: FieldSelector::parse(text).unwrap(), ..ListOptions::default() };
        both.old.list(&both.ctx, &options).await
    };
    let blue = list("spec.colour=blue").await.unwrap();
    assert_eq!(blue.items.len(), 1);
    assert_eq!(blue.items[0].to_value().unwrap()["spec"]["colour"], "blue");
    assert_eq!(list("spec.color=blue").await.unwrap_err().message, "field label not supported: spec.color");
    assert_eq!(list("").await.unwrap().items.len(), 3);
    let before = both.conversion.converted.load(Ordering::Relaxed);
    let again = list("").await.unwrap();
    assert_eq!(both.conversion.converted.load(Ordering::Relaxed), before);
    assert!(Arc::ptr_eq(&again.items[1], &blue.items[0]));
    // The stored kind's columns serve both.
    assert_eq!(both.old.row(&again.items[0]).unwrap(), [json!("a")]);

    let page = ListOptions { limit: 2, ..ListOptions::default() };
    let first = both.old.list(&both.ctx, &page).await.unwrap();
    let rest = ListOptions { continue_token: first.continue_token, ..page };
    assert_eq!(both.old.list(&both.ctx, &rest).await.unwrap().items[0].meta.name.as_ref(), "c");
}

#[tokio::test]
async fn a_watch_shows_its_version_of_the_same_events() {
    let both = both().await;
    both.new.create(widget("a")).await;
    let mut old = both.old.watch(&both.ctx, &ListOptions::default()).await.unwrap();
    let fields = FieldSelector::parse("spec.colour=blue").unwrap();
    let blue = ListOptions { fields, ..ListOptions::default() };
    let mut blue = both.old.watch(&both.ctx, &blue).await.unwrap();
    let mut new = both.new.registry.watch(&both.new.ctx, &ListOptions::default()).await.unwrap();
    both.patch_old("a", merge(json!({"spec": {"colour": "blue"}}))).await.unwrap();
    both.old.delete(&both.ctx, "a", DeleteOptions::default()).await.unwrap();

    for (kind, colour) in [("ADDED", "red"), ("MODIFIED", "blue"), ("DELETED", "blue")] {
        let (was, seen) = event(old.next().await.unwrap());
        let (also, stored) = event(new.next().await.unwrap());
        assert_eq!((was, also), (kind, kind));
        assert_eq!((&seen["spec"]["colour"], &stored["spec"]["color"]), (&json!(colour), &json!(colour)));
        assert_eq!(seen["metadata"], stored["metadata"]);
        assert_eq!(seen["apiVersion"], "example.io/v1beta1");
    }
    assert_eq!(event(blue.next().await.unwrap()).0, "ADDED");
    assert_eq!(event(blue.next().await.unwrap()).0, "DELETED");
}

fn event(event: WatchEvent) -> (&'static str, Value) {
    let (kind, object) = match event {
        WatchEvent::Added(object) => ("ADDED", object),
        WatchEvent::Modified(object) => ("MODIFIED", object),
        WatchEvent::Deleted(object) => ("DELETED", object),
        other => panic!("{other:?}"),
    };
    (kind, object.to_value().unwrap())
}

#[tokio::test]
async fn what_cannot_be_converted_is_an_error_and_ends_a_watch() {
    let both = both().await;
    let mut watch = both.old.watch(&both.ctx, &ListOptions::default()).await.unwrap();
    let mut body = widget("one");
    body["spec"]["color"] = "unspeakable".into();
    both.new.create(body).await;
    assert_eq!(both.old.get(&both.ctx, "one", "").await.unwrap_err().code, 500);
    assert_eq!(both.old.list(&both.ctx, &ListOptions::default()).await.unwrap_err().code, 500);
    assert!(matches!(watch.next().await, Some(WatchEvent::Error(_))));
    assert!(watch.next().await.is_none());
    both.new.get("one").await.unwrap();
}

#[tokio::test]
async fn subresources_deletion_and_creation_by_update_work_through_either_version() {
    let widgets = crate::widget::Widgets { create_on_update: true, ..Default::default() };
    let both = over(setup_with(widgets, Vec::new()).await);
    let update = both.old.update(&both.ctx, "one", payload(&old_widget("one")), UpdateOptions::default());
    assert_eq!(object(update.await.unwrap())["spec"]["colour"], "red");

    let status = RequestContext { subresource: Some("status".into()), ..both.ctx.clone() };
    let patch = merge(json!({"status": {"phase": "Running"}, "spec": {"colour": "blue"}}));
    let patched = both.old.patch(&status, "one", patch, UpdateOptions::default()).await.map(object).unwrap();
    assert_eq!((&patched["status"]["phase"], &patched["spec"]["colour"]), (&json!("Running"), &json!("red")));

    let scale = RequestContext { subresource: Some("scale".into()), ..both.ctx.clone() };
    both.old.patch(&scale, "one", merge(json!({"spec": {"replicas": 7}})), STRICT).await.unwrap();
    assert_eq!(both.old.get_scale(&scale, "one").await.unwrap()["spec"]["replicas"], 7);

    let orphan = DeleteOptions { propagation: Some(Propagation::Orphan), ..DeleteOptions::default() };
    let Deleted::Pending(held) = both.old.delete(&both.ctx, "one", orphan).await.unwrap() else { panic!("held") };
    assert_eq!(held.to_value().unwrap()["apiVersion"], "example.io/v1beta1");
    let all = both.old.delete_collection(&both.ctx, &ListOptions::default(), DeleteOptions::default()).await.unwrap();
    assert_eq!(all.items[0].to_value().unwrap()["spec"]["colour"], "red");
}
