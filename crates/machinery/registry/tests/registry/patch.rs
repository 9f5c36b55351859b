use base_meta::Reason;
use machinery_registry::{Patch, Resource, UpdateOptions};
use serde_json::json;

use crate::widget::{STRICT, json_patch, merge, object, setup, strategic, widget};

#[tokio::test]
async fn each_patch_type_patches() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let patched = setup
        .patch("one", json_patch(json!([{"op": "replace", "path": "/spec/color", "value": "blue"}])))
        .await
        .unwrap();
    assert_eq!(patched["spec"]["color"], "blue");
    let patched = setup.patch("one", merge(json!({"spec": {"parts": [{"name": "z"}]}}))).await.unwrap();
    assert_eq!(patched["spec"]["parts"], json!([{"name": "z"}]));
    let patched =
        setup.patch("one", strategic(json!({"spec": {"parts": [{"name": "z", "image": "i"}]}}))).await.unwrap();
    assert_eq!(patched["spec"]["parts"], json!([{"name": "z", "image": "i"}]));
    assert_eq!(patched["metadata"]["generation"], 4);
    assert_eq!(setup.get("one").await.unwrap(), patched);
}

#[tokio::test]
async fn status_is_patched_through_its_subresource_alone() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let patch = || merge(json!({"status": {"phase": "Running"}, "spec": {"color": "blue"}}));
    let patched =
        setup.registry.patch(&setup.on("status"), "one", patch(), UpdateOptions::default()).await.map(object).unwrap();
    assert_eq!(patched["status"]["phase"], "Running");
    assert_eq!(patched["spec"], made["spec"]);
}

#[tokio::test]
async fn a_patch_that_changes_nothing_writes_nothing() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let patch = strategic(json!({"spec": {"color": "red", "parts": [{"name": "a", "image": "one"}]}}));
    assert_eq!(setup.patch("one", patch).await.unwrap(), made);
    assert_eq!(setup.patch("one", strategic(json!({}))).await.unwrap(), made);
}

#[tokio::test]
async fn bad_patches_are_refused_and_change_nothing() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    for (patch, code) in [
        (json_patch(json!([{"op": "test", "path": "/spec/color", "value": "blue"}])), 422),
        (json_patch(json!([{"op": "remove", "path": "/spec/none"}])), 422),
        (json_patch(json!({"op": "remove"})), 400),
        (json_patch(json!([{"op": "replace", "path": "/metadata/name", "value": "two"}])), 400),
        (json_patch(json!([{"op": "replace", "path": "", "value": []}])), 422),
        (json_patch(json!([{"op": "remove", "path": "/metadata"}])), 400),
        (merge(json!({"spec": {"replicas": "many"}})), 422),
        (merge(json!({"spec": {"color": "plaid"}})), 422),
        (merge(json!({"spec": null})), 422),
        (merge(json!("text")), 400),
        (Patch::Merge("{".into()), 400),
        (merge(json!({"kind": "Gadget"})), 400),
        (merge(json!({"metadata": {"uid": "other"}})), 409),
        (merge(json!({"metadata": {"resourceVersion": "1"}})), 409),
        (strategic(json!({"spec": {"$patch": "explode"}})), 400),
        (strategic(json!({"spec": {"parts": [{"image": "nameless"}]}})), 400),
        (strategic(json!({"spec": {"parts": [{"name": "a", "$patch": "merge"}]}})), 400),
        (strategic(json!({"spec": {"$retainKeys": ["color"], "replicas": 2}})), 400),
        (strategic(json!({"spec": {"$setElementOrder/parts": [{"name": "b"}], "parts": [{"name": "c"}]}})), 400),
        (strategic(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}})), 400),
        (strategic(json!([])), 400),
    ] {
        let text = format!("{patch:?}");
        let error = setup.patch("one", patch).await.expect_err(&text);
        assert_eq!(error.code, code, "{text}: {error}");
        assert_eq!(setup.get("one").await.unwrap(), made, "{text}");
    }
    let error = setup.patch("none", merge(json!({}))).await.unwrap_err();
    assert_eq!(error.reason, Reason::NotFound);
}

#[tokio::test]
async fn unknown_fields_in_a_patch_are_refused_when_asked_to() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let patch = || merge(json!({"spec": {"colour": "blue"}}));
    let error = setup.registry.patch(&setup.ctx, "one", patch(), STRICT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Invalid);
    assert!(error.message.contains(r#"strict decoding error: unknown field "spec.colour""#), "{error}");
    setup.patch("one", patch()).await.unwrap();
    assert_eq!(setup.ctx.warnings.take(), [r#"unknown field "spec.colour""#]);
}

#[tokio::test]
async fn racing_patches_of_different_fields_all_land() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let patches = (0..20).map(|index| {
        let label = format!("l{index}");
        setup.patch("one", merge(json!({"metadata": {"labels": {label: "x"}}})))
    });
    for result in futures::future::join_all(patches).await {
        result.unwrap();
    }
    assert_eq!(setup.get("one").await.unwrap()["metadata"]["labels"].as_object().unwrap().len(), 21);
}

#[tokio::test]
async fn dry_run_shows_the_patched_object_and_keeps_the_stored_one() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let options = UpdateOptions { dry_run: true, ..UpdateOptions::default() };
    let patch = merge(json!({"spec": {"color": "blue"}}));
    let shown = setup.registry.patch(&setup.ctx, "one", patch, options).await.map(object).unwrap();
    assert_eq!(shown["spec"]["color"], "blue");
    assert_eq!(setup.get("one").await.unwrap(), made);
}
