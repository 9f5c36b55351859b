//! What upstream does, case by case.

use super::*;

#[test]
fn a_creator_owns_what_it_set_and_nothing_that_was_there() {
    let object = thing(
        json!({"app": "web", "x/y": ""}),
        json!({"replicas": 2, "selector": {"app": "web"}, "args": ["a"], "tags": ["b", "a"],
            "containers": [{"name": "c", "image": "i", "ports": [{"port": 80}, {"port": 443, "protocol": "UDP"}], "limits": {}}],
            "raw": {"any": {"deep": [1]}}, "strategy": {"type": "Roll"}}),
    );
    let text = concat!(
        r#"[{"manager":"kubectl-create","operation":"Update","apiVersion":"test.io/v1","time":"2024-01-01T00:00:00Z","#,
        r#""fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{},"f:x/y":{}}},"f:spec":{"f:args":{},"#,
        r#""f:containers":{".":{},"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:limits":{},"f:name":{},"f:ports":{".":{},"#,
        r#""k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"#,
        r#""k:{\"port\":443,\"protocol\":\"UDP\"}":{".":{},"f:port":{},"f:protocol":{}}}}},"#,
        r#""f:raw":{".":{},"f:any":{".":{},"f:deep":{}}},"f:replicas":{},"f:selector":{},"f:strategy":{".":{},"f:type":{}},"#,
        r#""f:tags":{".":{},"v:\"a\"":{},"v:\"b\"":{}}}}}]"#,
    );
    let stored = Stored::create("kubectl-create", &object);
    assert_eq!(stored.ledger.print(), text);
    // The quick way and the long way agree.
    let write = write("kubectl-create", Operation::Update, "2024-01-01T00:00:00Z");
    let long = updated(&kind(), &empty(), &object, &Ledger::default(), &write).unwrap().unwrap();
    assert_eq!(long.print(), text);
}

#[test]
fn an_object_of_which_nothing_is_owned_has_no_ledger() {
    assert!(Stored::create("nobody", &thing(Value::Null, Value::Null)).ledger.is_empty());
    assert!(Stored::create("nobody", &empty()).ledger.is_empty());
}

#[test]
fn an_updater_takes_over_what_it_changes_and_what_goes_is_nobodys() {
    let mut stored = Stored::create("one", &thing(json!({"a": "1", "b": "1"}), json!({"replicas": 1})));
    stored.update("two", "2024-01-02T00:00:00Z", &thing(json!({"a": "2"}), json!({"replicas": 1})));
    assert_eq!(stored.owns("one"), r#"{"f:metadata":{"f:labels":{}},"f:spec":{"f:replicas":{}}}"#);
    assert_eq!(stored.owns("two"), r#"{"f:metadata":{"f:labels":{"f:a":{}}}}"#);
    let times: Vec<_> = stored.ledger.entries().iter().map(|entry| entry.time.clone().unwrap()).collect();
    assert_eq!(times.iter().map(|time| &time[..10]).collect::<Vec<_>>(), ["2024-01-01", "2024-01-02"]);

    // Nothing changes: not even a time.
    let before = stored.ledger.print();
    let same = stored.object.clone();
    stored.update("two", "2024-01-03T00:00:00Z", &same);
    assert_eq!(stored.ledger.print(), before);
}

#[test]
fn applied_fields_are_merged_and_conflicts_named() {
    let mut stored = Stored::create(
        "kubectl-client-side-apply",
        &thing(json!({"app": "web"}), json!({"replicas": 1, "strategy": {"type": "Roll"}})),
    );
    let config = thing(Value::Null, json!({"replicas": 3}));
    let status = stored.apply("mine", &config, false).unwrap_err();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            409,
            r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using test.io/v1: .spec.replicas"#
        )
    );
    let causes = status.details.unwrap().causes;
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
    assert_eq!(causes[0].message, r#"conflict with "kubectl-client-side-apply" using test.io/v1"#);

    let config = thing(Value::Null, json!({"replicas": 3, "strategy": {"type": "Stop"}}));
    let status = stored.apply("mine", &config, false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using test.io/v1:\n- .spec.replicas\n- .spec.strategy.type"
    );
    assert_eq!(stored.object["spec"]["replicas"], 1);

    assert!(stored.apply("mine", &config, true).unwrap());
    assert_eq!(stored.object["spec"], json!({"replicas": 3, "strategy": {"type": "Stop"}}));
    assert_eq!(stored.owns("mine"), r#"{"f:spec":{"f:replicas":{},"f:strategy":{"f:type":{}}}}"#);
    assert_eq!(
        stored.owns("kubectl-client-side-apply"),
        r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:strategy":{}}}"#
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    let mut stored = Stored::new();
    let one = json!({"replicas": 3, "tags": ["a", "b"], "containers": [{"name": "c", "image": "1"}, {"name": "d", "image": "1"}]});
    stored.apply("one", &thing(json!({"x": "1", "y": "1"}), one), false).unwrap();
    stored
        .apply("two", &thing(json!({"x": "1"}), json!({"tags": ["b"], "containers": [{"name": "d"}]})), false)
        .unwrap();
    stored.apply("one", &thing(Value::Null, json!({"args": ["z"]})), false).unwrap();
    assert_eq!(stored.object["metadata"]["labels"], json!({"x": "1"}));
    assert_eq!(stored.object["spec"], json!({"args": ["z"], "tags": ["b"], "containers": [{"name": "d"}]}));
    assert_eq!(stored.owns("one"), r#"{"f:spec":{"f:args":{}}}"#);
    // The last owner gives up the rest.
    stored.apply("two", &thing(Value::Null, json!({"replicas": 1})), false).unwrap();
    assert_eq!(stored.object["spec"], json!({"args": ["z"], "replicas": 1}));
    assert_eq!(stored.object["metadata"], json!({"name": "web"}));
}

#[test]
fn two_appliers_of_one_value_share_it() {
    let mut stored = Stored::new();
    let config = thing(json!({"a": "1"}), Value::Null);
    stored.apply("one", &config, false).unwrap();
    assert!(!stored.apply("two", &config, false).unwrap());
    let status = stored.apply("two", &thing(json!({"a": "2"}), Value::Null), false).unwrap_err();
    assert_eq!(status.message, r#"Apply failed with 1 conflict: conflict with "one": .metadata.labels.a"#);
    // Whoever leaves it does not take it along.
    stored.apply("two", &thing(Value::Null, json!({"replicas": 1})), false).unwrap();
    assert_eq!(stored.object["metadata"]["labels"]["a"], "1");
}

#[test]
fn lists_take_the_order_applied_around_items_of_others() {
    let mut stored = Stored::new();
    let named = |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
    for (applied, live, merged) in [
        (&["a", "b"][..], &[][..], &["a", "b"][..]),
        (&["c"], &["a", "b"], &["a", "b", "c"]),
        (&["c", "a"], &["a", "b"], &["c", "a", "b"]),
        (&["b", "a"], &["a", "x", "b"], &["x", "b", "a"]),
        (&["a", "n", "b"], &["x", "a", "b", "y"], &["x", "a", "n", "b", "y"]),
    ] {
        stored.object["spec"]["containers"] = named(live);
        stored.ledger = Ledger::default();
        stored.apply("one", &thing(Value::Null, json!({"containers": named(applied)})), true).unwrap();
        let names: Vec<_> = stored.object["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, merged, "{applied:?} over {live:?}");
    }
}

#[test]
fn atoms_are_replaced_and_nulls_applied() {
    let mut stored = Stored::new();
    stored
        .apply(
            "one",
            &thing(Value::Null, json!({"selector": {"a": "1", "b": "1"}, "args": ["x", "y"], "replicas": 2})),
            false,
        )
        .unwrap();
    stored
        .apply("one", &thing(Value::Null, json!({"selector": {"c": "1"}, "args": ["z"], "replicas": null})), false)
        .unwrap();
    assert_eq!(stored.object["spec"], json!({"selector": {"c": "1"}, "args": ["z"], "replicas": null}));
    assert_eq!(stored.owns("one"), r#"{"f:spec":{"f:args":{},"f:replicas":{},"f:selector":{}}}"#);
}

#[test]
fn an_object_without_a_ledger_is_adopted_at_the_first_apply() {
    let mut stored = Stored { object: thing(json!({"a": "1"}), json!({"replicas": 2})), ledger: Ledger::default() };
    let same = stored.object.clone();
    stored.update("quiet", "2024-01-02T00:00:00Z", &same);
    assert!(stored.ledger.is_empty());
    let status = stored.apply("one", &thing(Value::Null, json!({"replicas": 3})), false).unwrap_err();
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using test.io/v1: .spec.replicas"#
    );
    stored.apply("one", &thing(Value::Null, json!({"replicas": 2})), false).unwrap();
    assert_eq!(
        stored.owns("before-first-apply"),
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:replicas":{}}}"#
    );
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let last = thing(json!({"a": "1"}), json!({"replicas": 2}));
    let mut object = thing(json!({"a": "1"}), json!({"replicas": 2}));
    object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = last.to_string().into();
    let stored = Stored::create("kubectl-client-side-apply", &object);
    let config = thing(json!({"a": "2"}), json!({"replicas": 3}));

    let mut other = stored.clone();
    assert_eq!(other.apply("somebody", &config, false).unwrap_err().code, 409);
    let mut kubectl = stored.clone();
    kubectl.apply("kubectl", &config, false).unwrap();
    assert_eq!(kubectl.object["spec"]["replicas"], 3);
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    assert_eq!(kubectl.object["metadata"]["annotations"][annotation], format!("{config}\n"));

    // What another has changed since is still a conflict.
    let mut scaled = stored.clone();
    let mut object = stored.object.clone();
    object["spec"]["replicas"] = 9.into();
    scaled.update("autoscaler", "2024-01-02T00:00:00Z", &object);
    let status = scaled.apply("kubectl", &config, false).unwrap_err();
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "autoscaler" using test.io/v1: .spec.replicas"#
    );
}

#[test]
fn a_config_that_does_not_follow_the_schema_is_refused_in_upstreams_words() {
    for (spec, problem) in [
        (json!({"colour": 1}), ".spec.colour: field not declared in schema"),
        (json!({"replicas": "3"}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"args": [1]}), ".spec.args[0]: expected string, got &value.valueUnstructured{Value:1}"),
        (
            json!({"containers": [{"name": "a"}, {"name": "a"}]}),
            r#".spec.containers: duplicate entries for key [name="a"]"#,
        ),
        (
            json!({"containers": [{"image": "a"}]}),
            r#".spec.containers: element 0: associative list with keys has an element that omits key field "name" (and doesn't have default value)"#,
        ),
        (
            json!({"replicas": "3", "tags": ["a", "a"]}),
            "errors:\n  .spec.replicas: expected numeric (int or float), got string\n  .spec.tags: duplicate entries for key [=\"a\"]",
        ),
    ] {
        let status = Stored::new().apply("one", &thing(Value::Null, spec), false).unwrap_err();
        assert_eq!(
            status.message,
            format!("failed to create typed patch object (ns/web; test.io/v1, Kind=Thing): {problem}")
        );
        assert_eq!(status.code, 500);
    }
}

#[test]
fn old_updaters_are_joined() {
    let mut stored = Stored::create("m00", &thing(json!({"l00": "1"}), Value::Null));
    let mut labels = json!({"l00": "1"});
    for at in 1..15 {
        labels[format!("l{at:02}")] = "1".into();
        stored.update(&format!("m{at:02}"), &format!("2024-01-02T00:00:{at:02}Z"), &thing(labels.clone(), Value::Null));
    }
    let names: Vec<_> = stored.ledger.entries().iter().map(|entry| entry.writer.manager.to_string()).collect();
    assert_eq!(names, ["ancient-changes", "m06", "m07", "m08", "m09", "m10", "m11", "m12", "m13", "m14"]);
    assert_eq!(stored.owns("ancient-changes").matches("f:l0").count(), 6);
}

#[test]
fn ledgers_that_are_none_are_refused() {
    for bad in [
        "{}",
        "[{}]",
        r#"[{"operation":"Update"}]"#,
        r#"[{"operation":"Eat","apiVersion":"v1","fieldsType":"FieldsV1"}]"#,
        r#"[{"operation":"Update","apiVersion":"v1"}]"#,
        r#"[{"operation":"Update","apiVersion":"v1","fieldsType":"FieldsV2"}]"#,
        r#"[{"operation":7}]"#,
    ] {
        assert!(Ledger::parse(bad).is_err(), "{bad}");
    }
    assert!(Ledger::parse("null").unwrap().is_empty());
    let bad = json!([{"operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"a":{}}}]);
    assert!(Ledger::sent(&bad, &Ledger::default()).is_err());
    assert!(Ledger::parse(&bad.to_string()).is_ok(), "looked into only when needed");
}
