use base_meta::Reason;
use machinery_registry::request::Propagation;
use machinery_registry::resource::Deleted;
use machinery_registry::{DeleteOptions, ListOptions, Resource};
use serde_json::{Value, json};

use crate::widget::{Setup, Widgets, merge, setup, setup_with, widget};

async fn delete(setup: &Setup, name: &str, options: DeleteOptions) -> (bool, Value) {
    match setup.registry.delete(&setup.ctx, name, options).await.unwrap() {
        Deleted::Gone(object) => (true, object.to_value().unwrap()),
        Deleted::Pending(object) => (false, object.to_value().unwrap()),
    }
}

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
}

async fn graceful() -> Setup {
    setup_with(Widgets { graceful: true, ..Default::default() }, Vec::new()).await
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_its_allocation_freed() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let (gone, last) = delete(&setup, "one", DeleteOptions::default()).await;
    assert!(gone);
    assert_eq!(last["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(last["metadata"]["resourceVersion"], setup.revision().await.to_string());
    assert_eq!(setup.get("one").await.unwrap_err().reason, Reason::NotFound);
    assert!(setup.registry.strategy().allocated.lock().unwrap().is_empty());
    let error = setup.registry.delete(&setup.ctx, "one", DeleteOptions::default()).await.unwrap_err();
    assert_eq!(error.message, r#"widgets.example.io "one" not found"#);
}

#[tokio::test]
async fn preconditions_hold_it_back() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    for options in [
        DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() },
        DeleteOptions { resource_version: Some("1".into()), ..DeleteOptions::default() },
    ] {
        let error = setup.registry.delete(&setup.ctx, "one", options).await.unwrap_err();
        assert_eq!(error.reason, Reason::Conflict);
        assert!(error.message.contains("Precondition failed: "), "{error}");
    }
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    assert!(delete(&setup, "one", dry).await.0);
    assert_eq!(setup.get("one").await.unwrap(), made);
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_they_are_removed() {
    let setup = setup().await;
    let mut body = widget("one");
    body["metadata"]["finalizers"] = json!(["example.io/hold"]);
    setup.create(body).await;
    let (gone, marked) = delete(&setup, "one", DeleteOptions::default()).await;
    assert!(!gone);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["generation"], 2);
    // A second delete changes nothing.
    assert_eq!(delete(&setup, "one", DeleteOptions::default()).await, (false, marked));

    let error = setup.patch("one", merge(json!({"metadata": {"finalizers": ["example.io/hold", "example.io/more"]}})));
    assert_eq!(error.await.unwrap_err().reason, Reason::Invalid);
    let last = setup.patch("one", merge(json!({"metadata": {"finalizers": null}}))).await.unwrap();
    assert!(last["metadata"]["finalizers"].is_null());
    assert_eq!(setup.get("one").await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let setup = setup().await;
    let propagate = |propagation| DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
    for (name, propagation, finalizer) in
        [("one", Propagation::Foreground, "foregroundDeletion"), ("two", Propagation::Orphan, "orphan")]
    {
        setup.create(widget(name)).await;
        let (gone, marked) = delete(&setup, name, propagate(propagation)).await;
        assert!(!gone);
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
    }
    // Another wish replaces the first; none needs no finalizer.
    let (_, marked) = delete(&setup, "one", propagate(Propagation::Orphan)).await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    assert!(delete(&setup, "two", propagate(Propagation::Background)).await.0);
}

#[tokio::test]
async fn graceful_deletion_marks_then_shortens_then_removes() {
    let setup = graceful().await;
    setup.create(widget("one")).await;
    let (gone, first) = delete(&setup, "one", DeleteOptions::default()).await;
    assert!(!gone);
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], 30);

    assert_eq!(delete(&setup, "one", grace(60)).await, (false, first.clone()));
    let (gone, shorter) = delete(&setup, "one", grace(5)).await;
    assert!(!gone);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert!(shorter["metadata"]["deletionTimestamp"].as_str() < first["metadata"]["deletionTimestamp"].as_str());

    // An update in between keeps the marks.
    let labelled = setup.patch("one", merge(json!({"metadata": {"labels": {"x": "y"}}}))).await.unwrap();
    assert_eq!(labelled["metadata"]["deletionTimestamp"], shorter["metadata"]["deletionTimestamp"]);

    assert!(delete(&setup, "one", grace(0)).await.0);
    assert!(setup.get("one").await.is_err());
}

#[tokio::test]
async fn a_finalizer_outlasts_the_grace_period() {
    let setup = graceful().await;
    let mut body = widget("one");
    body["metadata"]["finalizers"] = json!(["example.io/hold"]);
    setup.create(body).await;
    let (gone, marked) = delete(&setup, "one", grace(0)).await;
    assert!(!gone);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    setup.patch("one", merge(json!({"metadata": {"finalizers": []}}))).await.unwrap();
    assert!(setup.get("one").await.is_err());
}

#[tokio::test]
async fn a_removed_finalizer_does_not_end_the_grace_period() {
    let setup = graceful().await;
    let mut body = widget("one");
    body["metadata"]["finalizers"] = json!(["example.io/hold"]);
    setup.create(body).await;
    delete(&setup, "one", grace(30)).await;
    setup.patch("one", merge(json!({"metadata": {"finalizers": []}}))).await.unwrap();
    assert_eq!(setup.get("one").await.unwrap()["metadata"]["deletionGracePeriodSeconds"], 30);
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selector() {
    let setup = setup().await;
    for name in ["one", "two", "three"] {
        setup.create(widget(name)).await;
    }
    let list = ListOptions {
        labels: base_meta::selector::LabelSelector::parse("app in (one, two)").unwrap(),
        ..ListOptions::default()
    };
    let deleted = setup.registry.delete_collection(&setup.ctx, &list, DeleteOptions::default()).await.unwrap();
    assert_eq!(deleted.items.len(), 2);
    let left = setup.registry.list(&setup.ctx, &ListOptions::default()).await.unwrap();
    assert_eq!(left.items.iter().map(|object| &*object.meta.name).collect::<Vec<_>>(), ["three"]);
}

#[tokio::test]
async fn a_collections_deletion_heeds_fields_namespaces_finalizers_and_dry_run() {
    let setup = setup().await;
    for (name, color) in [("one", "red"), ("two", "blue"), ("three", "blue")] {
        let mut body = widget(name);
        body["spec"]["color"] = color.into();
        if name == "three" {
            body["metadata"]["finalizers"] = json!(["example.io/hold"]);
        }
        setup.create(body).await;
    }
    let blue = ListOptions {
        fields: base_meta::selector::FieldSelector::parse("spec.color=blue").unwrap(),
        ..ListOptions::default()
    };
    let elsewhere = machinery_registry::RequestContext { namespace: Some("other".into()), ..setup.ctx.clone() };
    let none = setup.registry.delete_collection(&elsewhere, &blue, DeleteOptions::default()).await.unwrap();
    assert!(none.items.is_empty());
    let before = setup.revision().await;
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    assert_eq!(setup.registry.delete_collection(&setup.ctx, &blue, dry).await.unwrap().items.len(), 2);
    assert_eq!(setup.revision().await, before);
    let deleted = setup.registry.delete_collection(&setup.ctx, &blue, DeleteOptions::default()).await.unwrap();
    assert_eq!(deleted.items.len(), 2);
    assert_eq!(setup.get("two").await.unwrap_err().reason, Reason::NotFound);
    assert!(setup.get("three").await.unwrap()["metadata"]["deletionTimestamp"].is_string());
    setup.get("one").await.unwrap();
}

#[tokio::test]
async fn a_dry_run_marks_nothing() {
    let setup = graceful().await;
    let made = setup.create(widget("one")).await;
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    let (gone, shown) = delete(&setup, "one", dry).await;
    assert!(!gone && shown["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(setup.get("one").await.unwrap(), made);
}
