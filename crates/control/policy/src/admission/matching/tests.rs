use serde_json::{Value, json};

use super::super::testing::{Asked, labelled};
use super::*;

const PODS: Gvr = Gvr::of("", "v1", "pods");

fn everything() -> Value {
    json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]}])
}

async fn matched(criteria: Value, asked: &Asked, object: Option<&Value>, old: Option<&Value>) -> Result<bool, Status> {
    let namespaces = labelled(&[("a", &[("team", "red")]), ("b", &[])]);
    let criteria = Criteria::parse(&criteria, NoRules::Nothing).expect("criteria");
    let attributes = asked.attributes(old);
    let request = Request::of(&attributes, object);
    Ok(criteria.matches(&request, &namespaces).await?.is_some())
}

#[tokio::test]
async fn namespaces_are_selected_by_their_labels() {
    let red = json!({"rules": everything(), "namespaceSelector": {"matchLabels": {"team": "red"}}});
    let namespaces = Gvr::of("", "v1", "namespaces");
    let ask = |gvr: Gvr, namespace: &'static str, name: &'static str, operation, object: Value| {
        let red = red.clone();
        async move {
            let asked = Asked::new(gvr, namespace, name, operation);
            matched(red, &asked, Some(&object), None).await
        }
    };
    let create = Operation::Create;
    assert_eq!(ask(PODS, "a", "p", create, json!({})).await, Ok(true));
    assert_eq!(ask(PODS, "b", "p", create, json!({})).await, Ok(false));
    assert_eq!(ask(Gvr::of("", "v1", "nodes"), "", "n", create, json!({})).await, Ok(true), "of the cluster");
    // A namespace that is written says for itself; one that is deleted is looked up.
    let labels = json!({"metadata": {"labels": {"team": "red"}}});
    assert_eq!(ask(namespaces.clone(), "", "new", create, labels.clone()).await, Ok(true));
    assert_eq!(ask(namespaces.clone(), "", "a", Operation::Update, json!({})).await, Ok(false));
    assert_eq!(ask(namespaces.clone(), "", "a", Operation::Delete, json!({})).await, Ok(true));
    assert_eq!(ask(namespaces, "", "b", Operation::Delete, labels).await, Ok(false));

    let missing = ask(PODS, "nowhere", "p", create, json!({})).await.expect_err("no such namespace");
    assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    let mut elsewhere = red.clone();
    elsewhere["rules"][0]["resources"] = json!(["services"]);
    let asked = Asked::new(PODS, "nowhere", "p", create);
    assert_eq!(matched(elsewhere, &asked, Some(&json!({})), None).await, Ok(false), "it is not its business");
}

#[tokio::test]
async fn objects_are_selected_by_what_they_are_or_were() {
    let criteria =
        json!({"rules": everything(), "objectSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}});
    let (with, without) = (json!({"metadata": {"labels": {"x": ""}}}), json!({"metadata": {}}));
    let table = [
        (Some(&with), None, true),
        (Some(&without), None, false),
        (Some(&without), Some(&with), true),
        (None, Some(&with), true),
        (None, Some(&without), false),
        (None, None, false),
    ];
    for (object, old, expected) in table {
        let asked = Asked::new(PODS, "a", "p", Operation::Update);
        assert_eq!(matched(criteria.clone(), &asked, object, old).await, Ok(expected), "{object:?} {old:?}");
    }
}

#[tokio::test]
async fn another_version_of_the_resource_is_as_good() {
    let rule = |version: &str, policy: &str| {
        json!({"matchPolicy": policy, "rules": [{"operations": ["UPDATE"], "apiGroups": ["autoscaling"],
            "apiVersions": [version], "resources": ["horizontalpodautoscalers"]}]})
    };
    let gvr = |version| Gvr::of("autoscaling", version, "horizontalpodautoscalers");
    let table = [
        ("v2", "Exact", Some("v2")),
        ("v1", "Exact", None),
        ("v1", "Equivalent", Some("v1")),
        ("*", "Equivalent", Some("v2")),
        ("v9", "Equivalent", None),
    ];
    for (version, policy, expected) in table {
        let asked = Asked::new(gvr("v2"), "a", "h", Operation::Update).also(gvr("v1"));
        let criteria = Criteria::parse(&rule(version, policy), NoRules::Nothing).expect("criteria");
        let attributes = asked.attributes(None);
        let request = Request::of(&attributes, None);
        let found = criteria.matches(&request, &labelled(&[])).await.expect("no failure");
        assert_eq!(found.map(|version| &*version.gvr.version), expected, "{version} {policy}");
    }
}

#[tokio::test]
async fn exclusions_and_no_rules() {
    let asked = Asked::new(PODS, "a", "p", Operation::Create);
    let attributes = asked.attributes(None);
    let request = Request::of(&attributes, None);
    let excluding = json!({"resourceRules": everything(), "excludeResourceRules": [{"operations": ["*"],
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    let table = [
        (json!({}), NoRules::Everything, true),
        (Value::Null, NoRules::Everything, true),
        (json!({}), NoRules::Nothing, false),
        (json!({"resourceRules": everything()}), NoRules::Everything, true),
        (excluding, NoRules::Everything, false),
    ];
    for (criteria, no_rules, expected) in table {
        let criteria = Criteria::parse(&criteria, no_rules).expect("criteria");
        let found = criteria.matches(&request, &labelled(&[])).await.expect("no failure");
        assert_eq!(found.is_some(), expected);
        assert_eq!(criteria.may_match(&PODS, None, Operation::Create), expected || !criteria.excluded.is_empty());
    }
}

#[test]
fn bad_criteria_are_refused() {
    for bad in [
        json!(1),
        json!({"rules": "x"}),
        json!({"rules": [{"operations": 1}]}),
        json!({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "Like"}]}}),
        json!({"objectSelector": {"matchLabels": {"-": "x"}}}),
    ] {
        assert!(Criteria::parse(&bad, NoRules::Nothing).is_err(), "{bad}");
    }
}

#[test]
fn configurations_of_admission_are_exempt() {
    let of = |resource| Gvr::of("admissionregistration.k8s.io", "v1", resource);
    assert!(is_exempt(&of("mutatingwebhookconfigurations")) && is_exempt(&of("validatingadmissionpolicybindings")));
    assert!(!is_exempt(&PODS) && !is_exempt(&Gvr::of("example.com", "v1", "mutatingwebhookconfigurations")));
}
