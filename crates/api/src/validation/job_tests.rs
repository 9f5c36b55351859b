//! Tables of bad jobs.

use serde_json::{Value, json};

use super::super::testing::{object, printed, with};
use super::*;

fn made(changes: &[(&str, Value)]) -> Job {
    let labels = json!({"controller-uid": "u", "job-name": "j", CONTROLLER_UID: "u", JOB_NAME: "j"});
    let good = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"completions": 1, "parallelism": 1,
        "selector": {"matchLabels": {CONTROLLER_UID: "u"}},
        "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
    let mut made = object(with(&good, changes));
    crate::defaults::job(&mut made);
    made
}

fn indexed_with(changes: &[(&str, Value)]) -> Vec<String> {
    let mut all = vec![("/spec/completionMode", json!("Indexed")), ("/spec/completions", json!(5))];
    all.extend_from_slice(changes);
    printed(job(&made(&all)))
}

#[test]
fn each_rule_names_its_field() {
    let rules = |rules: Value| ("/spec/podFailurePolicy", json!({ "rules": rules }));
    let codes = |codes: Value| rules(json!([{"action": "Ignore", "onExitCodes": codes}]));
    let rule = "spec.podFailurePolicy.rules[0]";
    let table: Vec<((&str, Value), String)> = vec![
        (
            ("/spec/parallelism", json!(-1)),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0".into(),
        ),
        (("/spec/managedBy", json!("x")), "spec.managedBy: Invalid value: \"x\": must be a domain-prefixed path".into()),
        (
            ("/spec/completionMode", json!("Some")),
            "spec.completionMode: Unsupported value: \"Some\": supported values: \"NonIndexed\", \"Indexed\"".into(),
        ),
        (
            ("/spec/backoffLimitPerIndex", json!(1)),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode".into(),
        ),
        (
            ("/spec/successPolicy", json!({"rules": [{"succeededCount": 1}]})),
            "spec.successPolicy: Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":1}]}: requires"
                .into(),
        ),
        (
            ("/spec/podReplacementPolicy", json!("Later")),
            "spec.podReplacementPolicy: Unsupported value: \"Later\": supported values: \"Failed\", \
             \"TerminatingOrFailed\""
                .into(),
        ),
        (
            ("/spec/template/spec/restartPolicy", json!("Always")),
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"".into(),
        ),
        (
            rules(json!([{"action": "FailJob"}])),
            format!("{rule}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
        ),
        (
            rules(json!([{"action": "", "onExitCodes": {"operator": "In", "values": [1]}}])),
            format!("{rule}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
        ),
        (
            codes(json!({"operator": "In", "values": []})),
            format!("{rule}.onExitCodes.values: Invalid value: []: at least one value is required"),
        ),
        (
            codes(json!({"operator": "In", "values": [2, 1]})),
            format!("{rule}.onExitCodes.values: Invalid value: [2,1]: must be ordered"),
        ),
        (
            codes(json!({"operator": "In", "values": [0, 1]})),
            format!("{rule}.onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator"),
        ),
        (
            codes(json!({"operator": "In", "values": [1, 1]})),
            format!("{rule}.onExitCodes.values[1]: Duplicate value: 1"),
        ),
        (
            codes(json!({"operator": "In", "values": [1], "containerName": "x"})),
            format!("{rule}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container"),
        ),
        (
            ("/spec/template/metadata/labels/job-name", json!("other")),
            "spec.template.metadata.labels[job-name]: Invalid value: {".into(),
        ),
    ];
    assert_eq!(printed(job(&made(&[]))), Vec::<String>::new());
    for (change, expected) in table {
        let found = printed(job(&made(std::slice::from_ref(&change))));
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{change:?}: {found:?}");
    }
}

#[test]
fn indexed_jobs() {
    let success = |rule: Value| ("/spec/successPolicy", json!({ "rules": [rule] }));
    let at = "spec.successPolicy.rules[0]";
    let table: Vec<((&str, Value), String)> = vec![
        (
            ("/spec/maxFailedIndexes", json!(1)),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified".into(),
        ),
        (
            success(json!({})),
            format!("{at}: Required value: at least one of succeededCount or succeededIndexes must be specified"),
        ),
        (
            success(json!({"succeededIndexes": "x"})),
            format!(
                "{at}.succeededIndexes: Invalid value: \"x\": error parsing succeededIndexes: cannot convert string to \
                 integer for index: \"x\""
            ),
        ),
        (
            success(json!({"succeededCount": 6})),
            format!("{at}.succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified"),
        ),
        (
            success(json!({"succeededIndexes": "0-2", "succeededCount": 4})),
            format!("{at}.succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of indexes"),
        ),
        (
            ("/spec/successPolicy", json!({"rules": []})),
            "spec.successPolicy.rules: Required value: at least one".into(),
        ),
    ];
    assert_eq!(indexed_with(&[success(json!({"succeededIndexes": "0,2-4"}))]), Vec::<String>::new());
    for (change, expected) in table {
        let found = indexed_with(std::slice::from_ref(&change));
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{change:?}: {found:?}");
    }
    let long = "x".repeat(63);
    let found = indexed_with(&[("/metadata/name", json!(long)), ("/spec/manualSelector", json!(true))]);
    assert!(found[0].starts_with("metadata.name: Invalid value: \"xxx"), "{found:?}");
    assert!(found[0].contains("will not able to create pod with invalid DNS label"));
}

#[test]
fn what_changes_and_what_does_not() {
    let image = ("/spec/template/spec/containers/0/image", json!("other"));
    let resources = ("/spec/template/spec/containers/0/resources", json!({"requests": {"cpu": "1"}}));
    let selector = ("/spec/template/spec/nodeSelector", json!({"a": "b"}));
    let refused = |new: &[(&str, Value)], old: &[(&str, Value)]| printed(job_update(&made(new), &made(old)));
    assert!(refused(&[("/spec/parallelism", json!(3))], &[]).is_empty());
    assert!(refused(std::slice::from_ref(&image), &[])[0].starts_with("spec.template: Invalid value: {"));
    assert_eq!(
        refused(&[("/spec/completions", json!(3))], &[]),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    assert_eq!(refused(std::slice::from_ref(&selector), &[]).len(), 1);
    let suspended = ("/spec/suspend", json!(true));
    assert!(refused(&[selector, resources], std::slice::from_ref(&suspended)).is_empty());
    assert_eq!(refused(&[image], &[suspended]).len(), 1);
    let many = |count: i32, at_once: i32| {
        [
            ("/spec/completionMode", json!("Indexed")),
            ("/spec/completions", json!(count)),
            ("/spec/parallelism", json!(at_once)),
        ]
    };
    assert!(refused(&many(4, 4), &many(2, 2)).is_empty());
    assert_eq!(
        refused(&many(4, 2), &many(2, 2)),
        ["spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"]
    );
}
