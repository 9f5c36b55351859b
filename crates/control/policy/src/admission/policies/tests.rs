//! Policies over requests, without a server: what is refused, told, recorded and changed.

use std::sync::Arc;

use base_meta::{Gvr, Reason, Status};
use machinery_registry::{Admission as _, Operation};
use serde_json::{Value, json};

use super::super::testing::{Asked, labelled};
use super::policy::{Binding, Policy};
use super::*;
use crate::rbac::tests::granting;

fn pods() -> Gvr {
    Gvr::of("", "v1", "pods")
}

fn world(flavour: Flavour, policies: &[Value], bindings: &[Value]) -> Arc<World> {
    let served = Arc::new(Served::default());
    let index = Index::new(flavour, served.clone());
    index.set(
        policies.iter().map(|policy| Arc::new(Policy::read(policy, 1))).collect(),
        bindings.iter().map(Binding::read).collect(),
    );
    let rbac = granting(&[("jane", "here", "", "pods", "own")]);
    let chain = Arc::new(Chain::new(&Default::default(), &Arc::new(rbac)));
    let namespaces = labelled(&[("here", &[("environment", "test")]), ("there", &[])]);
    Arc::new(World { index, namespaces, served, chain, metrics: Arc::default() })
}

/// About pods, with `more` in its spec.
fn policy(name: &str, more: Value) -> Value {
    let mut policy = json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]}]}}});
    policy["spec"].as_object_mut().expect("a spec").extend(more.as_object().expect("an object").clone());
    policy
}

fn binding(policy: &str, more: Value) -> Value {
    let mut binding = json!({"metadata": {"name": format!("{policy}-binding")},
        "spec": {"policyName": policy, "validationActions": ["Deny"]}});
    binding["spec"].as_object_mut().expect("a spec").extend(more.as_object().expect("an object").clone());
    binding
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"priority": 5, "containers": [{"name": "c", "image": "i"}]}})
}

fn asked(namespace: &str) -> Asked {
    Asked::new(pods(), namespace, "p", Operation::Create).by("jane", &["devs"])
}

async fn validated(asked: &Asked, policy: Value, binding: Value) -> Result<(), Status> {
    let plugin = Validating(world(Flavour::Validating, &[policy], &[binding]));
    plugin.validate(&asked.attributes(None), Some(&pod())).await
}

#[tokio::test]
async fn a_validation_that_does_not_hold_is_a_refusal() {
    let prefix = "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'x-binding' denied request: ";
    for (validation, expected, code) in [
        (json!({"expression": "object.spec.priority < 3"}), "failed expression: object.spec.priority < 3", 422),
        (json!({"expression": "false", "message": " no "}), "no", 422),
        (
            json!({"expression": "false", "message": "no", "messageExpression": "'priority ' + string(object.spec.priority)", "reason": "Forbidden"}),
            "priority 5",
            403,
        ),
        (json!({"expression": "false", "message": "no", "messageExpression": "object.nope"}), "no", 422),
        (json!({"expression": "false", "messageExpression": "'a\\nb'"}), "failed expression: false", 422),
        (json!({"expression": "false", "message": "no", "reason": "RequestEntityTooLarge"}), "no", 413),
        (
            json!({"expression": "object.spec.nope > 1"}),
            "expression 'object.spec.nope > 1' resulted in error: no such key: nope",
            422,
        ),
        (
            json!({"expression": "variables.most > object.spec.priority"}),
            "failed expression: variables.most > object.spec.priority",
            422,
        ),
        (
            json!({"expression": "variables.wrong > 1"}),
            "expression 'variables.wrong > 1' resulted in error: composited variable \"wrong\" fails to evaluate: no such key: wrong",
            422,
        ),
        (
            json!({"expression": "!authorizer.requestResource.check('own').allowed()"}),
            "failed expression: !authorizer.requestResource.check('own').allowed()",
            422,
        ),
    ] {
        let variables = json!([{"name": "least", "expression": "1"}, {"name": "most", "expression": "variables.least + 2"},
            {"name": "wrong", "expression": "object.wrong"}]);
        let policy = policy("x", json!({"variables": variables, "validations": [{"expression": "true"}, validation]}));
        let refused = validated(&asked("here"), policy, binding("x", json!({}))).await.expect_err(expected);
        assert_eq!((refused.message.as_str(), refused.code), (format!("{prefix}{expected}").as_str(), code));
        let details = refused.details.expect("details");
        assert_eq!(details.causes[0].message, refused.message["pods \"p\" is forbidden: ".len()..]);
    }
    let good = policy(
        "x",
        json!({"variables": [{"name": "wrong", "expression": "object.wrong"}],
        "validations": [{"expression": "true || variables.wrong"}, {"expression": "has(object.spec)"}]}),
    );
    assert_eq!(validated(&asked("here"), good, binding("x", json!({}))).await, Ok(()));
}

#[tokio::test]
async fn conditions_bindings_and_the_failure_policy_say_when() {
    let never = json!([{"expression": "false"}]);
    let refusing = |more: Value| {
        let mut spec = json!({"validations": never});
        spec.as_object_mut().expect("a spec").extend(more.as_object().expect("an object").clone());
        policy("x", spec)
    };
    let selected =
        binding("x", json!({"matchResources": {"namespaceSelector": {"matchLabels": {"environment": "test"}}}}));
    assert!(validated(&asked("here"), refusing(json!({})), selected.clone()).await.is_err());
    assert_eq!(validated(&asked("there"), refusing(json!({})), selected).await, Ok(()));
    let all = binding("x", json!({}));
    let condition = |expression: &str| json!({"matchConditions": [{"name": "a", "expression": expression}]});
    assert_eq!(validated(&asked("here"), refusing(condition("object.spec.priority > 9")), all.clone()).await, Ok(()));
    let refused = validated(&asked("here"), refusing(condition("object.nope")), all.clone()).await.expect_err("fails");
    assert!(
        refused.message.ends_with("denied request: compilation error: must evaluate to bool but got dyn"),
        "{refused}"
    );
    let mut ignoring = refusing(condition("object.nope == 1"));
    ignoring["spec"]["failurePolicy"] = json!("Ignore");
    assert_eq!(validated(&asked("here"), ignoring, all.clone()).await, Ok(()));
    let other = binding("other", json!({}));
    assert_eq!(validated(&asked("here"), refusing(json!({})), other).await, Ok(()));

    let params = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"}});
    let refused = validated(&asked("here"), refusing(params.clone()), all.clone()).await.expect_err("unknown kind");
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'x' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'"
    );
    let mut ignoring = refusing(params);
    ignoring["spec"]["failurePolicy"] = json!("Ignore");
    assert_eq!(validated(&asked("here"), ignoring, all).await, Ok(()));
}

#[tokio::test]
async fn what_is_not_denied_is_warned_of_or_recorded() {
    let policy = policy(
        "x",
        json!({"validations": [{"expression": "false", "message": "no"}],
        "auditAnnotations": [{"key": "a", "valueExpression": "' is ' + object.metadata.name"}, {"key": "b", "valueExpression": "null"}]}),
    );
    let asked = asked("here");
    let told = validated(&asked, policy.clone(), binding("x", json!({"validationActions": ["Warn", "Audit"]}))).await;
    assert_eq!(told, Ok(()));
    assert_eq!(
        asked.told().take(),
        ["Validation failed for ValidatingAdmissionPolicy 'x' with binding 'x-binding': no"]
    );
    let annotations = asked.told().take_annotations(true);
    assert_eq!(annotations.get("x/a").map(String::as_str), Some("is p"));
    assert_eq!(annotations.get("x/b"), None);
    let failure = &annotations["validation.policy.admission.k8s.io/validation_failure"];
    assert_eq!(
        serde_json::from_str::<Value>(failure).expect("JSON"),
        json!([{"message": "no", "policy": "x", "binding": "x-binding", "expressionIndex": 0, "validationActions": ["Warn", "Audit"]}])
    );
    let mut broken = policy;
    broken["spec"]["auditAnnotations"][0]["valueExpression"] = json!("object.nope + 'a'");
    let refused = validated(&asked, broken, binding("x", json!({"validationActions": ["Warn"]}))).await;
    assert!(refused.expect_err("an annotation that cannot be made").message.contains("no such key: nope"));
}

#[tokio::test]
async fn nothing_is_looked_at_while_nothing_is_bound() {
    let plugin = |bindings: &[Value]| {
        let policy = policy("x", json!({"validations": [{"expression": "true"}]}));
        Validating(world(Flavour::Validating, &[policy], bindings))
    };
    assert!(!plugin(&[]).handles(&pods(), None, Operation::Create));
    let bound = plugin(&[binding("x", json!({}))]);
    assert!(bound.handles(&pods(), None, Operation::Create));
    assert!(!bound.handles(&pods(), Some("status"), Operation::Update));
    let own = Gvr::of("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
    assert!(!bound.handles(&own, None, Operation::Create));
}

fn configuration(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

async fn mutated(mutations: Value) -> Result<Value, Status> {
    let policy = policy("x", json!({ "mutations": mutations }));
    let plugin = Mutating(world(Flavour::Mutating, &[policy], &[binding("x", json!({}))]));
    let mut pod = pod();
    plugin.mutate(&asked("here").attributes(None), &mut pod).await.map(|()| pod)
}

#[tokio::test]
async fn configurations_merge_and_patches_are_applied_in_order() {
    let pod = mutated(json!([
        configuration("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', image: 'j'}, Object.spec.containers{name: 'd'}]}}"),
        patch("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: string(object.spec.containers.size())}]"),
        // Then none of it is applied.
        patch("[JSONPatch{op: 'remove', path: '/spec'}, JSONPatch{op: 'test', path: '/kind', value: 'Other'}]"),
        configuration("has(object.spec.nope) ? Object{metadata: Object.metadata{name: 'other'}} : Object{}"),
    ]))
    .await
    .expect("mutated");
    assert_eq!(pod["spec"]["containers"], json!([{"name": "c", "image": "j"}, {"name": "d"}]));
    assert_eq!(pod["metadata"], json!({"name": "p", "labels": {"a": "b", "x/y": "2"}}));
    assert_eq!(pod["spec"]["priority"], 5);
}

#[tokio::test]
async fn mutations_that_cannot_be_made_are_refusals() {
    for (mutation, expected) in [
        (
            configuration("Object{spec: Object.other{}}"),
            "type mismatch: unexpected type name \"Object.other\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            configuration("Object{spec: Object.spec{nope: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec.nope: field not declared in schema",
        ),
        (
            configuration(
                "Object{spec: Object.spec{nodeSelector: Object.spec.nodeSelector{a: 'b'}, tolerations: [Object.spec.tolerations{key: 'a'}]}}",
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.nodeSelector, .spec.tolerations",
        ),
        (configuration("object"), "must evaluate to Object but got dyn"),
        (patch("[JSONPatch{op: 'remove', path: '/nope'}]"), "JSONPath: "),
        (
            patch("[JSONPatch{op: 'add', path: '/spec/a', value: authorizer}]"),
            "JSONPath valueExpression evaluated to a type that could not marshal to JSON: ",
        ),
        (
            patch("[object.spec.priority]"),
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of int",
        ),
        (
            patch("[JSONPatch{op: 'add', path: object.nope}]"),
            "expression '[JSONPatch{op: 'add', path: object.nope}]' resulted in error: no such key: nope",
        ),
    ] {
        let refused = mutated(json!([mutation])).await.expect_err(expected);
        let told = format!("policy 'x' with binding 'x-binding' denied request: {expected}");
        assert!(refused.message.starts_with(&told), "{}", refused.message);
        assert_eq!((refused.reason, refused.code), (Reason::Invalid, 403));
        assert_eq!(refused.details.expect("details").causes[0].message, refused.message);
    }
}

#[tokio::test]
async fn who_asks_for_it_sees_what_came_later() {
    let count = |name: &str, again: &str| {
        policy(
            name,
            json!({"reinvocationPolicy": again, "mutations": [patch(
            "[JSONPatch{op: 'add', path: '/metadata/labels/seen', value: has(object.metadata.labels.late) ? 'late' : 'early'}]")]}),
        )
    };
    let late = policy(
        "z",
        json!({"mutations": [patch("[JSONPatch{op: 'add', path: '/metadata/labels/late', value: 'yes'}]")]}),
    );
    for (again, expected) in [("IfNeeded", "late"), ("Never", "early")] {
        let bindings = [binding("a", json!({})), binding("z", json!({}))];
        let plugin = Mutating(world(Flavour::Mutating, &[late.clone(), count("a", again)], &bindings));
        let (asked, mut pod) = (asked("here"), pod());
        plugin.mutate(&asked.attributes(None), &mut pod).await.expect("mutated");
        assert_eq!(pod["metadata"]["labels"]["seen"], "early");
        assert!(asked.begins_second());
        plugin.mutate(&asked.attributes(None), &mut pod).await.expect("mutated again");
        assert_eq!(pod["metadata"]["labels"]["seen"], expected);
    }
}
