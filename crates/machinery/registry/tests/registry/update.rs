use base_meta::Reason;
use machinery_registry::resource::Answer;
use machinery_registry::{Resource, UpdateOptions};
use serde_json::{Value, json};

use crate::widget::{STRICT, Widgets, merge, object, payload, setup, setup_with, widget};

#[tokio::test]
async fn a_change_of_spec_is_a_new_generation_and_a_change_of_labels_is_not() {
    let setup = setup().await;
    let mut body = setup.create(widget("one")).await;
    body["metadata"]["labels"]["extra"] = "yes".into();
    let labelled = setup.update("one", &body).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    body = labelled;
    body["spec"]["color"] = "blue".into();
    body["metadata"]["generation"] = 1.into();
    let painted = setup.update("one", &body).await.unwrap();
    assert_eq!(painted["metadata"]["generation"], 2);
    assert_eq!(setup.get("one").await.unwrap(), painted);
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let before = setup.revision().await;
    assert_eq!(setup.update("one", &made).await.unwrap(), made);
    // Without the fields that are filled in, it is still the same object.
    assert_eq!(setup.update("one", &widget("one")).await.unwrap(), made);
    assert_eq!(setup.revision().await, before);
}

#[tokio::test]
async fn a_stale_version_conflicts() {
    let setup = setup().await;
    let stale = setup.create(widget("one")).await;
    let mut fresh = stale.clone();
    fresh["spec"]["color"] = "blue".into();
    setup.update("one", &fresh).await.unwrap();
    let error = setup.update("one", &stale).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"Operation cannot be fulfilled on widgets.example.io "one": the object has been modified; please apply your changes to the latest version and try again"#
    );
    assert_eq!(setup.get("one").await.unwrap()["spec"]["color"], "blue");
}

#[tokio::test]
async fn an_update_without_a_version_overwrites_where_the_kind_lets_it() {
    let loose = setup().await;
    loose.create(widget("one")).await;
    let mut body = widget("one");
    body["spec"]["color"] = "blue".into();
    assert_eq!(loose.update("one", &body).await.unwrap()["spec"]["color"], "blue");

    let strict = setup_with(Widgets { strict_updates: true, ..Default::default() }, Vec::new()).await;
    strict.create(widget("one")).await;
    let error = strict.update("one", &body).await.unwrap_err();
    assert_eq!(
        error.message,
        r#"widgets.example.io "one" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#
    );
}

#[tokio::test]
async fn identity_is_checked() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let with = |field: &str, value: Value| {
        let mut body = made.clone();
        body["metadata"][field] = value;
        body
    };
    let error = setup.update("one", &with("name", "two".into())).await.unwrap_err();
    assert_eq!(error.message, "the name of the object (two) does not match the name on the URL (one)");
    let error = setup.update("one", &with("namespace", "other".into())).await.unwrap_err();
    assert_eq!(
        error.message,
        "the namespace of the object (other) does not match the namespace on the request (default)"
    );
    let error = setup.update("one", &with("uid", "x".into())).await.unwrap_err();
    assert_eq!(error.reason, Reason::Conflict);
    assert!(error.message.contains("Precondition failed: UID in precondition: x, UID in object meta: "), "{error}");
    let error = setup.update("none", &widget("none")).await.unwrap_err();
    assert_eq!(error.message, r#"widgets.example.io "none" not found"#);
    assert_eq!(setup.get("one").await.unwrap(), made);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let mut body = made.clone();
    body["status"] = json!({"phase": "Running", "replicas": 1});
    body["spec"]["color"] = "blue".into();
    body["metadata"]["labels"]["seen"] = "yes".into();
    let options = UpdateOptions::default();
    let status = setup.registry.update(&setup.on("status"), "one", payload(&body), options).await.map(object).unwrap();
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(status["spec"]["color"], "red");
    assert_eq!(status["metadata"]["labels"]["seen"], "yes");
    assert_eq!(status["metadata"]["generation"], 1);

    body["metadata"] = status["metadata"].clone();
    body["status"] = json!({"phase": "Forged"});
    let spec = setup.update("one", &body).await.unwrap();
    assert_eq!(spec["spec"]["color"], "blue");
    assert_eq!(spec["status"]["phase"], "Running");
}

#[tokio::test]
async fn dry_run_shows_the_change_and_keeps_the_object() {
    let setup = setup().await;
    let made = setup.create(widget("one")).await;
    let mut body = made.clone();
    body["spec"]["color"] = "blue".into();
    let options = UpdateOptions { dry_run: true, ..UpdateOptions::default() };
    let shown = setup.registry.update(&setup.ctx, "one", payload(&body), options).await.map(object).unwrap();
    assert_eq!(shown["spec"]["color"], "blue");
    assert_eq!(setup.get("one").await.unwrap(), made);
}

#[tokio::test]
async fn an_update_may_create_where_the_kind_lets_it() {
    let setup = setup_with(Widgets { create_on_update: true, ..Default::default() }, Vec::new()).await;
    let put = |name: &'static str, body: Value, options: UpdateOptions| {
        let setup = &setup;
        async move { setup.registry.update(&setup.ctx, name, payload(&body), options).await }
    };
    let dry = UpdateOptions { dry_run: true, ..UpdateOptions::default() };
    let Answer::Object(shown) = put("one", widget("one"), dry).await.unwrap() else { panic!("an object") };
    assert!(shown.created && shown.object.to_value().unwrap()["metadata"]["resourceVersion"].is_null());
    assert_eq!(setup.get("one").await.unwrap_err().reason, Reason::NotFound);

    let Answer::Object(made) = put("one", widget("one"), STRICT).await.unwrap() else { panic!("an object") };
    assert!(made.created);
    assert_eq!(setup.get("one").await.unwrap(), made.object.to_value().unwrap());
    let Answer::Object(again) = put("one", widget("one"), STRICT).await.unwrap() else { panic!("an object") };
    assert!(!again.created);

    // A version does not keep it from being made anew, the uid of the one that is gone does.
    let mut body = widget("two");
    body["metadata"]["resourceVersion"] = "7".into();
    put("two", body.clone(), STRICT).await.unwrap();
    body["metadata"] = json!({"name": "three", "uid": "gone"});
    let error = put("three", body, STRICT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Conflict);
    assert!(error.message.ends_with("Precondition failed: UID in precondition: gone, UID in object meta: "), "{error}");
    let error = put("four", widget("five"), STRICT).await.unwrap_err();
    assert_eq!(error.reason, Reason::BadRequest);
}

#[tokio::test]
async fn of_racing_updates_that_create_one_does_and_the_others_update() {
    let setup = setup_with(Widgets { create_on_update: true, ..Default::default() }, Vec::new()).await;
    let bodies: Vec<_> = (0..8)
        .map(|n| {
            let mut body = widget("one");
            body["spec"]["color"] = format!("shade-{n}").into();
            body
        })
        .collect();
    let results = futures::future::join_all(bodies.iter().map(|body| setup.update("one", body))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(setup.get("one").await.unwrap()["metadata"]["generation"], 8);
}

#[tokio::test]
async fn scale_reads_and_writes_replicas() {
    let setup = setup().await;
    let mut body = widget("one");
    body["spec"]["selector"] = json!({"matchLabels": {"app": "one"}});
    setup.create(body).await;
    let scale = setup.on("scale");
    let shown = setup.registry.get_scale(&scale, "one").await.unwrap();
    assert_eq!(shown["kind"], "Scale");
    assert_eq!(shown["spec"]["replicas"], 1);
    assert_eq!(shown["status"], json!({"replicas": 0, "selector": "app=one"}));

    let mut wish = shown.clone();
    wish["spec"]["replicas"] = 4.into();
    let put = setup.registry.update(&scale, "one", payload(&wish), STRICT).await.map(object).unwrap();
    assert_eq!(put["spec"]["replicas"], 4);
    let error = setup.registry.update(&scale, "one", payload(&wish), STRICT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Conflict);

    let patch = merge(json!({"spec": {"replicas": 0}}));
    setup.registry.patch(&scale, "one", patch, STRICT).await.unwrap();
    let after = setup.get("one").await.unwrap();
    assert_eq!(after["spec"]["replicas"], 0);
    assert_eq!(after["metadata"]["generation"], 3);

    let patch = merge(json!({"spec": {"replicas": -1}}));
    let error = setup.registry.patch(&scale, "one", patch, STRICT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Invalid);
    assert_eq!(setup.get("one").await.unwrap(), after);
    assert_eq!(setup.registry.get_scale(&scale, "none").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn racing_updates_in_process_all_count() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let add = |_| {
        setup.registry.update_with(&setup.ctx, "one", |widget| {
            *widget.spec.replicas.get_or_insert(0) += 1;
            Ok(())
        })
    };
    for result in futures::future::join_all((0..20).map(add)).await {
        result.unwrap();
    }
    let after = setup.get("one").await.unwrap();
    assert_eq!(after["spec"]["replicas"], 21);
    assert_eq!(after["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_subresource_the_kind_does_not_have_is_not_found() {
    let setup = setup().await;
    setup.create(widget("one")).await;
    let error = setup.registry.update(&setup.on("log"), "one", payload(&widget("one")), STRICT).await.unwrap_err();
    assert_eq!(error.code, 404);
}
