//! One good object of each kind, through the whole write path, to its row.

use std::sync::Arc;

use jiff::Timestamp;
use machinery_registry::{CreateOptions, MediaType, Payload, RequestContext, Resource, UpdateOptions};
use machinery_storage::embedded::Embedded;
use serde_json::{Value, json};

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]})
}

fn webhooks() -> Value {
    json!([{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule()],
        "clientConfig": {"url": "https://a.example"}}])
}

/// Resource, object (`kind` and a name are added), the cells between name and age.
fn table() -> Vec<(&'static str, Value, Value)> {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    vec![
        ("ingresses", json!({"spec": {"defaultBackend": backend}}), json!(["<none>", "*", "", "80"])),
        (
            "ingressclasses",
            json!({"spec": {"controller": "a.b/c", "parameters": {"apiGroup": "g.h", "kind": "K", "name": "n"}}}),
            json!(["a.b/c", "K.g.h/n"]),
        ),
        ("networkpolicies", json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}), json!(["a=b"])),
        (
            "ipaddresses",
            json!({"metadata": {"name": "10.43.0.9"},
                "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "x"}}}),
            json!(["services/default/x"]),
        ),
        (
            "servicecidrs",
            json!({"spec": {"cidrs": ["10.44.0.0/16", "fd00::/112"]}}),
            json!(["10.44.0.0/16,fd00::/112"]),
        ),
        (
            "storageclasses",
            json!({"provisioner": "a.example/b", "allowVolumeExpansion": true}),
            json!(["a.example/b", "Delete", "Immediate", true]),
        ),
        (
            "volumeattachments",
            json!({"spec": {"attacher": "a.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            json!(["a.example", "v", "n", false]),
        ),
        ("csidrivers", json!({"spec": {}}), json!([true, false, false, "<unset>", false, "Persistent"])),
        ("csinodes", json!({"spec": {"drivers": [{"name": "a.example", "nodeID": "1"}]}}), json!([1])),
        ("csistoragecapacities", json!({"storageClassName": "c", "capacity": "1024Mi"}), json!(["c", "1Gi"])),
        ("volumeattributesclasses", json!({"driverName": "a.example", "parameters": {"a": "b"}}), json!(["a.example"])),
        ("priorityclasses", json!({"value": 10}), json!([10, false])),
        ("runtimeclasses", json!({"handler": "runsc"}), json!(["runsc"])),
        (
            "flowschemas",
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
            json!(["exempt", 1000, "<none>"]),
        ),
        (
            "prioritylevelconfigurations",
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
            json!(["Limited", 30, 64, 8, 50]),
        ),
        ("resourceclaims", json!({"spec": claim}), json!(["pending"])),
        ("resourceclaimtemplates", json!({"spec": {"spec": claim}}), json!([])),
        ("deviceclasses", json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}), json!([])),
        (
            "resourceslices",
            json!({"spec": {"driver": "a.example", "nodeName": "n",
                "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}}),
            json!(["n", "a.example", "p"]),
        ),
        ("validatingwebhookconfigurations", json!({"webhooks": webhooks()}), json!([1])),
        ("mutatingwebhookconfigurations", json!({"webhooks": webhooks()}), json!([1])),
        (
            "validatingadmissionpolicies",
            json!({"spec": {"matchConstraints": {"resourceRules": [rule()]}, "validations": [{"expression": "true"}]}}),
            json!([1, "<unset>"]),
        ),
        (
            "validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"],
                "paramRef": {"name": "x", "namespace": "y", "parameterNotFoundAction": "Deny"}}}),
            json!(["p", "y/x"]),
        ),
        (
            "mutatingadmissionpolicies",
            json!({"spec": {"matchConstraints": {"resourceRules": [rule()]}, "reinvocationPolicy": "Never",
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
            json!([1, "<unset>"]),
        ),
        ("mutatingadmissionpolicybindings", json!({"spec": {"policyName": "p"}}), json!(["p", "<unset>"])),
        (
            "apiservices",
            json!({"metadata": {"name": "v1.a.example"}, "spec": {"group": "a.example", "version": "v1",
                "groupPriorityMinimum": 1, "versionPriority": 1, "service": {"namespace": "n", "name": "s"}}}),
            json!(["n/s", "Unknown"]),
        ),
    ]
}

#[tokio::test]
async fn a_good_object_of_each_kind_is_stored_and_printed() {
    let storage = Arc::new(Embedded::in_memory().await.expect("a store"));
    let resources = crate::tests::started(storage, "10.43.0.0/16").await.all();
    for (plural, mut object, cells) in table() {
        let resource = resources.iter().find(|resource| resource.def().plural == plural).expect("served");
        let def = resource.def();
        object["apiVersion"] = json!(def.gvk.group_version().to_string());
        object["kind"] = json!(def.gvk.kind);
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = json!("a");
        }
        let made = create(&**resource, &object).await.unwrap_or_else(|status| panic!("{plural}: {}", status.message));
        let row = resource.row(&made).expect("a row");
        assert_eq!(row.len(), def.columns.len(), "{plural}");
        let shown = cells.as_array().expect("cells");
        assert_eq!(row[1..=shown.len()], shown[..], "{plural}");
        // The second of the same name is refused, and a wrong one names its field.
        let again = create(&**resource, &object).await.expect_err("taken");
        assert_eq!(again.code, 409, "{plural}");
        object["metadata"]["name"] = json!("Bad_Name/");
        let bad = create(&**resource, &object).await.expect_err("a bad name");
        assert!(bad.code == 422 && bad.message.contains("metadata.name"), "{plural}: {}", bad.message);
    }
}

async fn create(resource: &dyn Resource, object: &Value) -> Result<Arc<machinery_storage::Object>, base_meta::Status> {
    let def = resource.def();
    let ctx = RequestContext {
        user: Arc::default(),
        gvr: def.gvr(),
        subresource: None,
        namespace: def.namespaced().then(|| Arc::from("default")),
        warnings: Default::default(),
    };
    let payload = Payload { media: MediaType::Json, bytes: object.to_string().into() };
    Ok(resource.create(&ctx, payload, CreateOptions::default()).await?.object)
}

#[tokio::test]
async fn a_signing_request_says_who_asked_and_is_approved_apart() {
    let storage = Arc::new(Embedded::in_memory().await.expect("a store"));
    let resources = crate::tests::started(storage, "10.43.0.0/16").await.all();
    let requests =
        resources.iter().find(|resource| resource.def().plural == "certificatesigningrequests").expect("served");
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = rcgen::CertificateParams::new(vec!["a.example".to_owned()])
        .and_then(|params| params.serialize_request(&key))
        .and_then(|request| request.pem())
        .expect("a request");
    let request = k8s_openapi::ByteString(pem.into_bytes());
    let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "a"}, "spec": {"request": request, "signerName": "a.example/b",
            "usages": ["client auth"], "expirationSeconds": 3600, "username": "forged"},
        "status": {"conditions": [{"type": "Approved", "status": "True"}]}});
    let user =
        machinery_registry::UserInfo { name: "jane".to_owned(), groups: vec!["devs".to_owned()], ..Default::default() };
    let ctx = RequestContext {
        user: Arc::new(user),
        gvr: requests.def().gvr(),
        subresource: None,
        namespace: None,
        warnings: Default::default(),
    };
    let payload = |value: &Value| Payload { media: MediaType::Json, bytes: value.to_string().into() };
    let made = requests.create(&ctx, payload(&object), CreateOptions::default()).await.expect("created").object;
    let value: Value = made.to_value().expect("JSON");
    assert_eq!((&value["spec"]["username"], &value["spec"]["groups"]), (&json!("jane"), &json!(["devs"])));
    assert_eq!(requests.row(&made).expect("a row")[2..], ["a.example/b", "jane", "60m", "Pending"]);

    let mut approved = value.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "ok"}]});
    approved["spec"]["usages"] = json!(["server auth"]);
    let approval = RequestContext { subresource: Some("approval".into()), ..ctx.clone() };
    requests.update(&approval, "a", payload(&approved), UpdateOptions::default()).await.expect("approved");
    let now: Value = requests.get(&ctx, "a", "").await.expect("there").to_value().expect("JSON");
    assert_eq!(now["spec"]["usages"], json!(["client auth"]), "what was asked stays");
    let condition = &now["status"]["conditions"][0];
    assert_eq!(condition["type"], "Approved");
    let updated: Timestamp = condition["lastUpdateTime"].as_str().expect("a time").parse().expect("a time");
    assert!(updated <= Timestamp::now());

    // As a JSON Patch, too; a signer's condition is not an approver's to set.
    let patch = json!([{"op": "add", "path": "/status/conditions/-", "value": {"type": "Failed", "status": "True"}}]);
    let patch = machinery_registry::Patch::Json(patch.to_string().into());
    requests.patch(&approval, "a", patch, UpdateOptions::default()).await.expect("nothing changes");
    let now: Value = requests.get(&ctx, "a", "").await.expect("there").to_value().expect("JSON");
    assert_eq!(now["status"]["conditions"].as_array().map(Vec::len), Some(1));
    let denied = json!([{"op": "add", "path": "/status/conditions/-", "value": {"type": "Denied", "status": "True"}}]);
    let denied = machinery_registry::Patch::Json(denied.to_string().into());
    let both = requests.patch(&approval, "a", denied, UpdateOptions::default()).await.expect_err("both");
    assert_eq!(both.code, 422);
}
