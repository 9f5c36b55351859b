//! Decoding and normalising with the real schemas: what upstream's decoder says and prints.

use base_meta::Gvk;
use base_meta::schema::{DecodeError, Decoded, SchemaRef, conform, decode, normalise, strict_message};
use proptest::prelude::*;
use serde_json::{Value, json};

fn deployment() -> SchemaRef {
    super::by_gvk(&Gvk::of("apps", "v1", "Deployment")).expect("a Deployment")
}

fn core(kind: &'static str) -> SchemaRef {
    super::by_gvk(&Gvk::of("", "v1", kind)).expect(kind)
}

fn decoded(schema: SchemaRef, text: &str) -> Decoded {
    decode(schema, text.as_bytes()).expect(text)
}

fn refusal(schema: SchemaRef, text: &str) -> String {
    decode(schema, text.as_bytes()).expect_err(text).client_message()
}

fn normal(schema: SchemaRef, text: &str) -> Value {
    let mut value = decoded(schema, text).value;
    normalise(schema, &mut value);
    value
}

#[test]
fn unknown_and_duplicate_fields_are_named_by_path() {
    let text = r#"{"kind":"Deployment","spec":{"replicas":1,"foo":1,"foo":2,"replicas":2,"Replicas":3,
        "template":{"metadata":{"labels":{"a":"1","a":"2"}},
        "spec":{"containers":[{"name":"a"},{"imagee":{"x":[1]},"name":"b","name":"c"}]}}}}"#;
    let Decoded { value, strict_errors } = decoded(deployment(), text);
    assert_eq!(
        strict_errors,
        [
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "spec.Replicas""#,
            r#"duplicate field "spec.template.metadata.labels.a""#,
            r#"unknown field "spec.template.spec.containers[1].imagee""#,
            r#"duplicate field "spec.template.spec.containers[1].name""#,
        ]
    );
    assert_eq!(value["spec"]["replicas"], 2, "the last one wins");
    assert_eq!(value["spec"]["template"]["spec"]["containers"][1], json!({"name": "c"}));
    assert_eq!(
        strict_message(&strict_errors[..2]),
        r#"strict decoding error: unknown field "spec.foo", duplicate field "spec.replicas""#
    );
}

#[test]
fn wrong_types_read_as_gos() {
    for (text, message) in [
        (r#"{"spec":{"replicas":"2"}}"#, "string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (r#"{"spec":{"replicas":1.5}}"#, "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            r#"{"spec":{"replicas":99999999999}}"#,
            "number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (r#"{"spec":{"paused":"yes"}}"#, "string into Go struct field DeploymentSpec.spec.paused of type bool"),
        (r#"{"metadata":{"labels":{"a":1}}}"#, "number into Go struct field ObjectMeta.metadata.labels of type string"),
        (r#"{"metadata":[]}"#, "array into Go struct field Deployment.metadata of type v1.ObjectMeta"),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"ports":[{"protocol":6}]}]}}}}"#,
            "number into Go struct field ContainerPort.spec.template.spec.containers.ports.protocol of type v1.Protocol",
        ),
        (
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
            "bool into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        ("[1]", "array into Go value of type v1.Deployment"),
        ("\"x\"", "string into Go value of type v1.Deployment"),
    ] {
        assert_eq!(refusal(deployment(), text), format!("json: cannot unmarshal {message}"), "{text}");
    }
    let container = |resources: &str| {
        format!(r#"{{"spec":{{"containers":[{{"name":"a","resources":{{"limits":{{"cpu":{resources}}}}}}}]}}}}"#)
    };
    for bad in ["\"lots\"", "{}", "true", "[1]"] {
        assert!(refusal(core("Pod"), &container(bad)).starts_with("quantities must match"), "{bad}");
    }
    assert_eq!(refusal(core("Secret"), r#"{"data":{"a":"%"}}"#), "illegal base64 data at input byte 0");
}

#[test]
fn broken_json_is_a_syntax_error_even_after_a_wrong_type() {
    for text in ["", "{", "{\"spec\":{\"replicas\":\"x\"}", "{} {}", "{\"a\" 1}", "\u{feff}{}", "nul"] {
        assert!(matches!(decode(deployment(), text.as_bytes()), Err(DecodeError::Syntax(_))), "{text}");
    }
    assert!(decode(deployment(), b"{\"kind\":\"\xff\"}").is_err());
    let deep = format!("{{\"metadata\":{{\"managedFields\":[{{\"fieldsV1\":{}", "[".repeat(5000));
    assert!(matches!(decode(deployment(), deep.as_bytes()), Err(DecodeError::Syntax(_))));
    // What no field takes is skipped without recursion.
    let unknown = format!("{{\"x\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(decoded(deployment(), &unknown).strict_errors, [r#"unknown field "x""#]);
}

#[test]
fn nulls_are_what_go_makes_of_them() {
    let value =
        normal(core("ConfigMap"), r#"{"metadata":{"name":null,"labels":{"a":null}},"data":null,"immutable":null}"#);
    assert_eq!(value, json!({"metadata": {"labels": {"a": ""}}}));
    // A null leaves a number as it was, and empties what is held by reference.
    let text = r#"{"spec":{"replicas":1,"replicas":null,"minReadySeconds":3,"minReadySeconds":null}}"#;
    assert_eq!(decoded(deployment(), text).value, json!({"spec": {"minReadySeconds": 3}}));
    assert_eq!(decoded(deployment(), "null").value, json!({}));
}

#[test]
fn normal_form_is_what_go_prints() {
    let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"creationTimestamp":null,"labels":{},"name":"a"},
        "spec":{"hostNetwork":false,"terminationGracePeriodSeconds":0,"volumes":[],"containers":[
        {"name":"c","args":[],"stdin":false,"securityContext":{},"resources":{"limits":{"memory":"1024Mi","cpu":1.5}}}]}}"#;
    assert_eq!(
        normal(core("Pod"), text),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "securityContext": {}, "resources": {"limits": {"memory": "1Gi", "cpu": "1500m"}}}]},
            "status": {}})
    );
    assert_eq!(
        normal(deployment(), r#"{"spec":{"replicas":0}}"#),
        json!({"metadata": {}, "status": {}, "spec": {"replicas": 0, "selector": null, "strategy": {},
            "template": {"metadata": {}, "spec": {"containers": null}}}})
    );
    let service = normal(core("Service"), r#"{"spec":{"ports":[{"port":80,"targetPort":"http"},{"port":81}]}}"#);
    assert_eq!(service["spec"]["ports"], json!([{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 0}]));
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    let event = normal(core("Event"), r#"{"firstTimestamp":"2024-01-01T01:00:00+01:00","eventTime":null}"#);
    assert_eq!((&event["firstTimestamp"], &event["eventTime"]), (&json!("2024-01-01T00:00:00Z"), &Value::Null));
    let slice = super::by_gvk(&Gvk::of("discovery.k8s.io", "v1", "EndpointSlice")).expect("an EndpointSlice");
    assert_eq!(normal(slice, r#"{"addressType":"IPv4","endpoints":[]}"#)["endpoints"], Value::Null);
    let props = super::schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
    let bounds = normal(props.expect("a schema"), r#"{"minimum":1.0,"maximum":-2.5,"multipleOf":1e30}"#);
    // Numbers alike compare alike; the text tells a float from an integer.
    assert_eq!(bounds.to_string(), r#"{"maximum":-2.5,"minimum":1,"multipleOf":1e+30}"#);
}

#[test]
fn parsed_values_conform_like_bytes() {
    let value = json!({"spec": {"replicas": 3.0, "foo": 1, "selector": null}});
    let decoded = conform(deployment(), value).expect("whole floats are integers in YAML");
    assert_eq!(decoded.value, json!({"spec": {"replicas": 3}}));
    assert_eq!(decoded.strict_errors, [r#"unknown field "spec.foo""#]);
    let error = conform(deployment(), json!({"spec": {"replicas": 3.5}})).expect_err("not whole");
    assert!(error.client_message().starts_with("json: cannot unmarshal number 3.5"));
}

/// Strategies work on `k8s-openapi` types: the normal form passes through them unharmed, also where much is absent.
#[test]
fn sparse_objects_pass_through_their_types() {
    fn passes<T: serde::Serialize + serde::de::DeserializeOwned>(group: &'static str, kind: &'static str, text: &str) {
        let schema = super::by_gvk(&Gvk::of(group, "v1", kind)).expect(kind);
        let value = normal(schema, text);
        let typed: T = serde_json::from_value(value.clone()).expect(kind);
        let mut again = serde_json::to_value(typed).expect(kind);
        normalise(schema, &mut again);
        for field in ["apiVersion", "kind"] {
            again.as_object_mut().expect("an object").remove(field);
        }
        assert_eq!(again, value, "{kind}");
    }
    use k8s_openapi::api::{
        apps::v1 as apps, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    };
    passes::<core::Pod>("", "Pod", "{}");
    passes::<core::Pod>(
        "",
        "Pod",
        r#"{"spec":{"containers":[{"ports":[{}],"env":[{"name":"A"}],"livenessProbe":{}}]}}"#,
    );
    passes::<core::Pod>("", "Pod", r#"{"status":{"conditions":[{}],"containerStatuses":[{}],"podIPs":[{}]}}"#);
    passes::<core::Service>("", "Service", r#"{"spec":{"ports":[{}],"selector":{"a":null}}}"#);
    passes::<core::Secret>("", "Secret", r#"{"data":{"a":null,"b":""}}"#);
    passes::<core::ConfigMap>("", "ConfigMap", r#"{"data":{"a":null},"binaryData":{}}"#);
    passes::<core::Event>("", "Event", "{}");
    passes::<core::Endpoints>("", "Endpoints", r#"{"subsets":[{"addresses":[{"ip":"1.2.3.4"}]}]}"#);
    passes::<core::Node>("", "Node", r#"{"status":{"capacity":{"cpu":2}}}"#);
    passes::<core::Namespace>("", "Namespace", "{}");
    passes::<core::ServiceAccount>("", "ServiceAccount", r#"{"secrets":[{}]}"#);
    // An absent selector reads as an empty one: k8s-openapi knows no other. Validation refuses both.
    passes::<apps::Deployment>("apps", "Deployment", r#"{"spec":{"selector":{}}}"#);
    passes::<apps::ReplicaSet>("apps", "ReplicaSet", r#"{"spec":{"replicas":0,"selector":{}}}"#);
    passes::<coordination::Lease>(
        "coordination.k8s.io",
        "Lease",
        r#"{"spec":{"renewTime":"2024-01-01T00:00:00.000000Z"}}"#,
    );
    passes::<discovery::EndpointSlice>(
        "discovery.k8s.io",
        "EndpointSlice",
        r#"{"endpoints":[{"conditions":{"ready":false}}]}"#,
    );
}

#[test]
fn the_table_stays_small() {
    let fields: usize = super::table().types.iter().map(|this| this.fields.len()).sum();
    assert!(fields > 4000, "{fields}");
    let bytes = fields * size_of::<base_meta::schema::Field>() + include_str!("table.txt").len();
    assert!(bytes < 640 * 1024, "{bytes} bytes for {fields} fields");
}

/// JSON that is near enough to a Pod to get deep into its schema.
fn podlike() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("containers"),
        Just("resources"),
        Just("limits"),
        Just("cpu"),
        Just("ports"),
        Just("name"),
        Just("labels"),
        Just("creationTimestamp"),
        Just("managedFields"),
        Just("fieldsV1"),
        Just("livenessProbe"),
        Just("httpGet"),
        Just("port"),
        Just("foo"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-zA-Z:.+-]{0,12}".prop_map(Value::from),
        Just(json!("2024-01-01T00:00:00Z")),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
        let _ = decode(core("Pod"), &bytes);
        let _ = decode(core("Pod"), text.as_bytes());
    }

    #[test]
    fn what_decodes_is_stable(value in podlike()) {
        let pod = core("Pod");
        let bytes = value.to_string();
        let parsed: Value = serde_json::from_str(&bytes).expect("its own text");
        let from_bytes = decode(pod, bytes.as_bytes());
        if let Ok(Decoded { value: mut once, strict_errors }) = from_bytes {
            let conformed = conform(pod, parsed).expect("bytes are the stricter form");
            prop_assert_eq!(&conformed.value, &once);
            prop_assert_eq!(conformed.strict_errors, strict_errors);
            normalise(pod, &mut once);
            let mut twice = decode(pod, once.to_string().as_bytes()).expect("the normal form").value;
            normalise(pod, &mut twice);
            prop_assert_eq!(twice, once);
        }
    }
}
