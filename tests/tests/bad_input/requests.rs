//! Wrong requests on the wire, compared with upstream's `Status`: code, reason, message and causes.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Api, Cluster, Options, must};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn deployment() -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
        "selector": { "matchLabels": { "a": "b" } },
        "template": { "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "nginx" }] } },
    } })
}

fn service() -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "ports": [{ "port": 80 }], "selector": { "a": "b" } } })
}

fn pod() -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": { "containers": [{ "name": "c", "image": "nginx" }] } })
}

/// An object with one value set, or taken out with `null`, by JSON pointer.
fn with(mut object: Value, changes: &[(&str, Value)]) -> Value {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let parent = object.pointer_mut(parent).expect("the parent is there");
        match parent {
            Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value.clone(),
            parent if value.is_null() => drop(parent.as_object_mut().expect("an object").remove(name)),
            parent => parent[name] = value.clone(),
        }
    }
    object
}

/// Reason, message after the value, and field of each expected cause.
type Causes<'a> = &'a [(&'static str, &'a str, &'static str)];
type Wanted = Vec<(&'static str, String, &'static str)>;

/// With what is to be said of it.
fn refused(object: Value, causes: Causes<'_>) -> (Value, Wanted) {
    (object, causes.iter().map(|(reason, message, field)| (*reason, (*message).to_owned(), *field)).collect())
}

const CONTAINER: &str = "/spec/template/spec/containers/0";
const REQUIRED: &str = "FieldValueRequired";
const INVALID: &str = "FieldValueInvalid";
const UNSUPPORTED: &str = "FieldValueNotSupported";
const DUPLICATE: &str = "FieldValueDuplicate";
const FORBIDDEN: &str = "FieldValueForbidden";

fn deployments_of_no_use() -> Vec<(Value, Wanted)> {
    let invalid = |changes: &[(&str, Value)], causes: Causes<'_>| refused(with(deployment(), changes), causes);
    let of_container = |field: &str, value: Value, causes: Causes<'_>| {
        let pointer = format!("{CONTAINER}/{field}");
        invalid(&[(&pointer, value)], causes)
    };
    let mismatch = "Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";
    vec![
        invalid(
            &[("/spec/selector", Value::Null)],
            &[(REQUIRED, "Required value", "spec.selector"), (INVALID, mismatch, "spec.template.metadata.labels")],
        ),
        invalid(
            &[("/spec/selector/matchLabels", json!({ "a": "c" }))],
            &[(INVALID, mismatch, "spec.template.metadata.labels")],
        ),
        invalid(
            &[("/spec/replicas", json!(-1))],
            &[(INVALID, "Invalid value: -1: must be greater than or equal to 0", "spec.replicas")],
        ),
        invalid(
            &[("/spec/strategy", json!({ "type": "Sudden" }))],
            &[(
                UNSUPPORTED,
                "Unsupported value: \"Sudden\": supported values: \"Recreate\", \"RollingUpdate\"",
                "spec.strategy.type",
            )],
        ),
        invalid(
            &[("/spec/strategy", json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 0 } }))],
            &[(
                INVALID,
                "Invalid value: 0: may not be 0 when `maxSurge` is 0",
                "spec.strategy.rollingUpdate.maxUnavailable",
            )],
        ),
        invalid(
            &[("/spec/template/spec/restartPolicy", json!("Never"))],
            &[(
                UNSUPPORTED,
                "Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.restartPolicy",
            )],
        ),
        invalid(
            &[("/spec/template/spec/containers", json!([]))],
            &[(REQUIRED, "Required value", "spec.template.spec.containers")],
        ),
        of_container("image", Value::Null, &[(REQUIRED, "Required value", "spec.template.spec.containers[0].image")]),
        of_container(
            "imagePullPolicy",
            json!("Sometimes"),
            &[(
                UNSUPPORTED,
                "Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                "spec.template.spec.containers[0].imagePullPolicy",
            )],
        ),
        of_container(
            "ports",
            json!([{ "containerPort": 70000 }, { "containerPort": 0 }]),
            &[
                (
                    INVALID,
                    "Invalid value: 70000: must be between 1 and 65535, inclusive",
                    "spec.template.spec.containers[0].ports[0].containerPort",
                ),
                (REQUIRED, "Required value", "spec.template.spec.containers[0].ports[1].containerPort"),
            ],
        ),
        of_container(
            "ports",
            json!([{ "containerPort": 80, "name": "http" }, { "containerPort": 81, "name": "http" }]),
            &[(DUPLICATE, "Duplicate value: \"http\"", "spec.template.spec.containers[0].ports[1].name")],
        ),
        of_container(
            "resources",
            json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "2" } }),
            &[(
                INVALID,
                "Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "spec.template.spec.containers[0].resources.requests",
            )],
        ),
        of_container(
            "env",
            json!([{ "name": "" }]),
            &[(REQUIRED, "Required value", "spec.template.spec.containers[0].env[0].name")],
        ),
    ]
}

fn services_of_no_use() -> Vec<(Value, Wanted)> {
    let invalid = |changes: &[(&str, Value)], causes: Causes<'_>| refused(with(service(), changes), causes);
    let ports = |ports: Value, causes: Causes<'_>| invalid(&[("/spec/ports", ports)], causes);
    let twice = "Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}";
    vec![
        ports(json!([]), &[(REQUIRED, "Required value", "spec.ports")]),
        ports(
            json!([{ "port": 80, "name": "a" }, { "port": 80, "name": "b" }]),
            &[(DUPLICATE, twice, "spec.ports[1]")],
        ),
        ports(
            json!([{ "port": 80 }, { "port": 81 }]),
            &[(REQUIRED, "Required value", "spec.ports[0].name"), (REQUIRED, "Required value", "spec.ports[1].name")],
        ),
        ports(
            json!([{ "port": 65536 }]),
            &[
                (INVALID, "Invalid value: 65536: must be between 1 and 65535, inclusive", "spec.ports[0].port"),
                (INVALID, "Invalid value: 65536: must be between 1 and 65535, inclusive", "spec.ports[0].targetPort"),
            ],
        ),
        ports(
            json!([{ "port": 80, "protocol": "TPC" }]),
            &[(
                UNSUPPORTED,
                "Unsupported value: \"TPC\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.ports[0].protocol",
            )],
        ),
        ports(
            json!([{ "port": 80, "nodePort": 30000 }]),
            &[(FORBIDDEN, "Forbidden: may not be used when `type` is 'ClusterIP'", "spec.ports[0].nodePort")],
        ),
        invalid(
            &[("/spec/type", json!("NodePort")), ("/spec/ports", json!([{ "port": 80, "nodePort": 80 }]))],
            &[(
                INVALID,
                "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
                "spec.ports[0].nodePort",
            )],
        ),
        invalid(
            &[("/spec/clusterIP", json!("10.43.0.1"))],
            &[(
                INVALID,
                "Invalid value: [\"10.43.0.1\"]: failed to allocate IP 10.43.0.1: provided IP is already allocated",
                "spec.clusterIPs",
            )],
        ),
        invalid(
            &[("/spec/clusterIP", json!("192.0.2.1"))],
            &[(
                INVALID,
                "Invalid value: [\"192.0.2.1\"]: failed to allocate IP 192.0.2.1: the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.43.0.0/16",
                "spec.clusterIPs",
            )],
        ),
        invalid(
            &[("/spec/type", json!("Inner"))],
            &[(
                UNSUPPORTED,
                "Unsupported value: \"Inner\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                "spec.type",
            )],
        ),
        invalid(
            &[("/metadata/name", json!("1-web-"))],
            &[(
                INVALID,
                "Invalid value: \"1-web-\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "metadata.name",
            )],
        ),
    ]
}

#[test]
fn invalid_objects_are_refused_field_by_field() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let api = Api::new(&cluster)?;
        let before = (items(&api, DEPLOYMENTS)?, items(&api, SERVICES)?);
        for (path, kind, group, all) in [
            (DEPLOYMENTS, "Deployment", "apps", deployments_of_no_use()),
            (SERVICES, "Service", "", services_of_no_use()),
        ] {
            for (object, expected) in all {
                let reply = api.post(path, &object)?;
                let status = &reply.body;
                assert_eq!((reply.code, &status["reason"]), (422, &json!("Invalid")), "{object}: {}", reply.text);
                assert_eq!(
                    (&status["kind"], &status["status"], &status["code"]),
                    (&json!("Status"), &json!("Failure"), &json!(422))
                );
                let causes: Vec<Value> = expected
                    .iter()
                    .map(|(reason, message, field)| json!({ "reason": reason, "message": message, "field": field }))
                    .collect();
                let name = &object["metadata"]["name"];
                assert_eq!(status["details"]["causes"], json!(causes), "{object}");
                assert_eq!((&status["details"]["name"], &status["details"]["kind"]), (name, &json!(kind)));
                let said: Vec<String> =
                    expected.iter().map(|(_, message, field)| format!("{field}: {message}")).collect();
                let said = if said.len() == 1 { said[0].clone() } else { format!("[{}]", said.join(", ")) };
                let what = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
                assert_eq!(status["message"], format!("{what} {name} is invalid: {said}"));
            }
        }
        assert_eq!((items(&api, DEPLOYMENTS)?, items(&api, SERVICES)?), before);
        // Nor was an address taken by any of them.
        let free = with(service(), &[("/spec/clusterIP", json!("10.43.77.77"))]);
        let refused = with(free.clone(), &[("/spec/type", json!("Inner"))]);
        assert_eq!(api.post(SERVICES, &refused)?.code, 422);
        assert_eq!(api.post(SERVICES, &free)?.code, 201);
        cluster.finish()
    })());
}

fn items(api: &Api<'_>, path: &str) -> Result<Value> {
    Ok(api.get(path)?.body["items"].clone())
}

#[test]
fn undecodable_and_misplaced_requests_are_refused() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let api = Api::new(&cluster)?;
        let cannot = |kind: &str, version: &str, problem: &str| {
            format!("{kind} in version \"{version}\" cannot be handled as a Deployment: {problem}")
        };
        let unregistered = |kind: &str, version: &str| {
            format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            )
        };
        let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
        let bodies = [
            (
                &strict,
                with(deployment(), &[("/spec/replica", json!(1))]),
                cannot("Deployment", "v1", "strict decoding error: unknown field \"spec.replica\""),
            ),
            (
                &strict,
                with(
                    deployment(),
                    &[("/spec/replica", json!(1)), ("/spec/template/spec/containers/0/imag", json!("x"))],
                ),
                cannot(
                    "Deployment",
                    "v1",
                    "strict decoding error: unknown field \"spec.replica\", unknown field \"spec.template.spec.containers[0].imag\"",
                ),
            ),
            (
                &strict,
                with(deployment(), &[("/spec/replicas", json!("two"))]),
                cannot(
                    "Deployment",
                    "v1",
                    "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                ),
            ),
            (
                &strict,
                with(deployment(), &[("/spec/template/spec/containers", json!(5))]),
                cannot(
                    "Deployment",
                    "v1",
                    "json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
                ),
            ),
            (
                &strict,
                with(
                    deployment(),
                    &[("/spec/template/spec/containers/0/resources", json!({ "limits": { "cpu": "much" } }))],
                ),
                cannot(
                    "Deployment",
                    "v1",
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ),
            ),
            (
                &strict,
                with(deployment(), &[("/kind", json!("Deploymint"))]),
                cannot("Deploymint", "v1", &unregistered("Deploymint", "apps/v1")),
            ),
            (
                &strict,
                with(deployment(), &[("/apiVersion", json!("apps/v3"))]),
                cannot("Deployment", "v3", &unregistered("Deployment", "apps/v3")),
            ),
            (
                &strict,
                with(deployment(), &[("/metadata/namespace", json!("other"))]),
                "the namespace of the provided object does not match the namespace sent on the request".into(),
            ),
        ];
        for (path, body, message) in bodies {
            let reply = api.post(path, &body)?;
            assert_eq!(
                (reply.code, &reply.body["reason"], &reply.body["message"]),
                (400, &json!("BadRequest"), &json!(message)),
                "{body}"
            );
        }
        duplicates(&api, &strict)?;
        assert_eq!(items(&api, DEPLOYMENTS)?, json!([]));

        let json = "Content-Type: application/json";
        let patch = "Content-Type: application/merge-patch+json";
        let too_large =
            format!("{{\"data\":{{\"a\":\"{}\"}},\"metadata\":{{\"name\":\"large\"}}}}", "x".repeat(1_100_000));
        let file = cluster.write("too-large", &too_large)?;
        #[allow(clippy::type_complexity)] // a table of cases reads best where they are
        let table: [(&str, &str, &[&str], &str, u16, &str, &str); 19] = [
            (
                "POST",
                CONFIG_MAPS,
                &[json],
                "{",
                400,
                "BadRequest",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ",
            ),
            (
                "POST",
                CONFIG_MAPS,
                &["Content-Type: image/png"],
                "{}",
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ),
            (
                "POST",
                CONFIG_MAPS,
                &[json],
                "{}",
                422,
                "Invalid",
                "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
            ),
            (
                "POST",
                CONFIG_MAPS,
                &[json],
                r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#,
                400,
                "BadRequest",
                "resourceVersion should not be set on objects to be created",
            ),
            (
                "POST",
                "/api/v1/namespaces/nowhere/configmaps",
                &[json],
                r#"{"metadata":{"name":"a"}}"#,
                404,
                "NotFound",
                "namespaces \"nowhere\" not found",
            ),
            (
                "POST",
                CONFIG_MAPS,
                &[json],
                &format!("@{file}"),
                422,
                "Invalid",
                "ConfigMap \"large\" is invalid: []: Too long: may not be more than 1048576 bytes",
            ),
            (
                "POST",
                "/api/v1/configmaps",
                &[json],
                "{}",
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            (
                "DELETE",
                "/api/v1/namespaces",
                &[],
                "",
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
            (
                "PUT",
                &format!("{CONFIG_MAPS}/a"),
                &[json],
                r#"{"metadata":{"name":"b"}}"#,
                400,
                "BadRequest",
                "the name of the object (b) does not match the name on the URL (a)",
            ),
            (
                "PUT",
                &format!("{CONFIG_MAPS}/a"),
                &[json],
                r#"{"metadata":{"name":"a"}}"#,
                404,
                "NotFound",
                "configmaps \"a\" not found",
            ),
            ("PATCH", &format!("{CONFIG_MAPS}/a"), &[patch], "{}", 404, "NotFound", "configmaps \"a\" not found"),
            (
                "PATCH",
                &format!("{CONFIG_MAPS}/a"),
                &[json],
                "{}",
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            ),
            ("GET", "/api/v1/gadgets", &[], "", 404, "NotFound", "the server could not find the requested resource"),
            (
                "GET",
                "/apis/apps/v2/deployments",
                &[],
                "",
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
            (
                "GET",
                CONFIG_MAPS,
                &["Accept: text/html"],
                "",
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json",
            ),
            ("GET", "/api/v1/pods?labelSelector=a%20in", &[], "", 400, "BadRequest", "unable to parse requirement: "),
            (
                "GET",
                "/api/v1/pods?fieldSelector=spec.colour%3Dred",
                &[],
                "",
                400,
                "BadRequest",
                "field label not supported: spec.colour",
            ),
            (
                "GET",
                "/api/v1/pods?limit=ten",
                &[],
                "",
                400,
                "BadRequest",
                "strconv.ParseInt: parsing \"ten\": invalid syntax",
            ),
            ("GET", "/api/v1/pods?continue=nonsense", &[], "", 400, "BadRequest", "continue key is not valid"),
        ];
        for (method, path, headers, body, code, reason, message) in table {
            let reply = api.request(method, path, headers, body)?;
            assert_eq!((reply.code, &reply.body["reason"]), (code, &json!(reason)), "{method} {path}: {}", reply.text);
            let said = reply.body["message"].as_str().context("a message")?;
            assert!(said.starts_with(message), "{method} {path}: {said}");
        }
        immutable_fields(&api)?;
        assert_eq!(api.get("/readyz")?.text, "ok");
        cluster.finish()
    })());
}

fn immutable_fields(api: &Api<'_>) -> Result<()> {
    let json = ["Content-Type: application/merge-patch+json"];
    assert_eq!(api.post(DEPLOYMENTS, &with(deployment(), &[("/spec/replicas", json!(0))]))?.code, 201);
    assert_eq!(api.post(SERVICES, &service())?.code, 201);
    assert_eq!(api.post(PODS, &with(pod(), &[("/spec/nodeSelector", json!({ "no": "where" }))]))?.code, 201);
    let changes = [
        (
            DEPLOYMENTS,
            json!({ "spec": { "selector": { "matchLabels": { "a": "c" } }, "template": { "metadata": { "labels": { "a": "c" } } } } }),
            "spec.selector",
            "field is immutable",
        ),
        (
            SERVICES,
            json!({ "spec": { "clusterIP": "10.43.9.9", "clusterIPs": ["10.43.9.9"] } }),
            "spec.clusterIPs[0]",
            "may not change once set",
        ),
        (PODS, json!({ "spec": { "restartPolicy": "Never" } }), "spec", "pod updates may not change fields other than"),
        (PODS, json!({ "metadata": { "uid": "11111111-1111-1111-1111-111111111111" } }), "", "UID in precondition"),
    ];
    for (path, change, field, message) in changes {
        let item = format!("{path}/web");
        let before = api.get(&item)?.body;
        let reply = api.request("PATCH", &item, &json, &change.to_string())?;
        if field.is_empty() {
            assert_eq!((reply.code, &reply.body["reason"]), (409, &json!("Conflict")), "{}", reply.text);
        } else {
            assert_eq!((reply.code, &reply.body["reason"]), (422, &json!("Invalid")), "{}", reply.text);
            assert_eq!(reply.body["details"]["causes"][0]["field"], field, "{}", reply.text);
        }
        assert!(reply.text.contains(message), "{}", reply.text);
        let after = api.get(&item)?.body;
        assert_eq!((&before["spec"], &before["metadata"]["uid"]), (&after["spec"], &after["metadata"]["uid"]));
    }
    Ok(())
}

fn duplicates(api: &Api<'_>, path: &str) -> Result<()> {
    let json = deployment().to_string().replacen("\"spec\":{", "\"spec\":{\"replicas\":1,\"replicas\":2,", 1);
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n  replicas: 2\n";
    for (media, body, problem) in [
        ("json", json.as_str(), "duplicate field \"spec.replicas\""),
        // Where upstream's YAML library says which line.
        ("yaml", yaml, "spec: duplicate entry with key \"replicas\" at line "),
    ] {
        let reply = api.request("POST", path, &[&format!("Content-Type: application/{media}")], body)?;
        assert_eq!((reply.code, &reply.body["reason"]), (400, &json!("BadRequest")), "{}", reply.text);
        let expected =
            format!("Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: {problem}");
        assert!(reply.body["message"].as_str().is_some_and(|message| message.starts_with(&expected)), "{}", reply.text);
    }
    Ok(())
}
