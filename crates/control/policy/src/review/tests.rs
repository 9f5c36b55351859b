use serde_json::json;

use super::*;
use crate::rbac::tests::defaults;

async fn ask(kind: &str, user: (&str, &[&str]), namespace: Option<&str>, body: Value) -> Result<Value, Status> {
    let rbac = defaults();
    let bootstrap = Arc::new(BootstrapTokens(Arc::default()));
    let chain = Arc::new(Chain::new(&Default::default(), &rbac));
    let all = resources(&rbac, &chain, &crate::tokens::tests::tokens(&[]).1, &bootstrap, &Default::default());
    let resource = all.iter().find(|resource| resource.def().gvk.kind == kind).expect("such a review");
    let groups = user.1.iter().map(|group| (*group).to_owned()).collect();
    let ctx = RequestContext {
        user: Arc::new(UserInfo { name: user.0.into(), groups, ..UserInfo::default() }),
        gvr: resource.def().gvr(),
        subresource: None,
        namespace: namespace.map(Arc::from),
        warnings: Default::default(),
    };
    let payload = Payload { media: MediaType::Json, bytes: body.to_string().into() };
    let written = resource.create(&ctx, payload, CreateOptions::default()).await?;
    written.object.to_value().map_err(Status::internal)
}

const ADMIN: (&str, &[&str]) = ("admin", &["system:masters", "system:authenticated"]);

#[tokio::test]
async fn access() {
    let pods = json!({"verb": "get", "resource": "pods", "namespace": "a"});
    let spec = json!({"user": "system:kube-scheduler", "resourceAttributes": pods});
    let answer = ask("SubjectAccessReview", ADMIN, None, json!({"spec": spec})).await.expect("answered");
    assert_eq!(
        answer["status"],
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \"system:kube-scheduler\""})
    );
    assert_eq!(answer["spec"], spec);
    let spec = json!({"resourceAttributes": pods});
    let answer = ask("SelfSubjectAccessReview", ("jane", &[]), None, json!({"spec": spec})).await.expect("answered");
    assert_eq!(answer["status"], json!({"allowed": false}));
    let spec = json!({"user": "x", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/api"}});
    let answer = ask("SubjectAccessReview", ADMIN, None, json!({"spec": spec})).await.expect("answered");
    assert_eq!(answer["status"]["allowed"], true);
}

#[tokio::test]
async fn selectors_that_are_not_understood_are_told() {
    let asked = |field: Value, label: Value| {
        json!({"spec": {"user": "x", "resourceAttributes": {"verb": "list", "resource": "pods",
            "fieldSelector": field, "labelSelector": label}}})
    };
    let requirement = |operator: &str, values: &[&str]| json!({"key": "a", "operator": operator, "values": values});
    let (field, label) = ("spec.resourceAttributes.fieldSelector", "spec.resourceAttributes.labelSelector");
    for (fields, labels, expected) in [
        (json!({"rawSelector": "a=b"}), json!({"rawSelector": "a in (b)"}), String::new()),
        (
            json!({"rawSelector": "key in value"}),
            json!({"rawSelector": "&"}),
            format!("{field} ignored due to parse error; {label} ignored due to parse error"),
        ),
        (
            json!({"requirements": [requirement("In", &["b"]), requirement("In", &["b", "c"])]}),
            json!({"requirements": [requirement("Later", &["b"])]}),
            format!("{field} partially ignored due to parse error; {label} ignored due to parse error"),
        ),
    ] {
        let answer = ask("SubjectAccessReview", ADMIN, None, asked(fields, labels)).await.expect("answered");
        assert_eq!(answer["status"]["evaluationError"].as_str().unwrap_or_default(), expected);
    }
    let good = json!({"rawSelector": "a=b"});
    for (fields, labels, expected) in [
        (
            json!({}),
            good.clone(),
            format!(
                "{field}.requirements: Required value: when {field} is specified, requirements or rawSelector is required"
            ),
        ),
        (
            json!({"rawSelector": "a", "requirements": [requirement("In", &["b"])]}),
            good.clone(),
            format!("{field}.rawSelector: Invalid value: \"a\": may not specified at the same time as requirements"),
        ),
        (
            json!({"requirements": [{"key": "", "operator": "Exists"}]}),
            good.clone(),
            format!("{field}.requirements[0].key: Required value: must be specified"),
        ),
        (
            good.clone(),
            json!({"requirements": [requirement("In", &[])]}),
            format!(
                "{label}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            ),
        ),
        (
            good.clone(),
            json!({"requirements": [requirement("Exists", &["b"])]}),
            format!(
                "{label}.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            ),
        ),
        (
            good,
            json!({"requirements": [{"key": "a b", "operator": "Exists"}]}),
            format!("{label}.requirements[0].key: Invalid value: \"a b\""),
        ),
    ] {
        let status = ask("SubjectAccessReview", ADMIN, None, asked(fields, labels)).await.expect_err("refused");
        assert!(status.message.contains(&expected), "{} wants {expected}", status.message);
    }
}

#[tokio::test]
async fn bad_questions() {
    let table = [
        (
            "SubjectAccessReview",
            None,
            json!({"spec": {"user": "x"}}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            "SubjectAccessReview",
            None,
            json!({"spec": {"resourceAttributes": {"verb": "get"}}}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
        (
            "LocalSubjectAccessReview",
            Some("a"),
            json!({"spec": {"user": "x", "resourceAttributes": {"verb": "get", "namespace": "b"}}}),
            "LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace",
        ),
        ("SelfSubjectRulesReview", None, json!({"spec": {}}), "no namespace on request"),
        (
            "SelfSubjectReview",
            None,
            json!({"kind": "Pod", "apiVersion": "v1"}),
            "SelfSubjectReview in version \"v1\" cannot be handled as a SelfSubjectReview: the body is a Pod",
        ),
    ];
    for (kind, namespace, body, expected) in table {
        let status = ask(kind, ADMIN, namespace, body.clone()).await.expect_err("refused");
        assert_eq!(status.message, expected, "{body}");
    }
}

#[tokio::test]
async fn what_the_caller_is_and_may() {
    let answer = ask("SelfSubjectReview", ADMIN, None, json!({})).await.expect("answered");
    assert_eq!(
        answer["status"],
        json!({"userInfo": {"username": "admin", "groups": ["system:masters", "system:authenticated"]}})
    );
    let answer =
        ask("SelfSubjectRulesReview", ADMIN, None, json!({"spec": {"namespace": "a"}})).await.expect("answered");
    let status = &answer["status"];
    assert_eq!(status["incomplete"], false);
    assert_eq!(status["resourceRules"][0], json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    let node = ("system:node:n", &["system:nodes"][..]);
    let answer =
        ask("SelfSubjectRulesReview", node, None, json!({"spec": {"namespace": "a"}})).await.expect("answered");
    assert_eq!(answer["status"]["evaluationError"], "node authorizer does not support user rule resolution");
}
