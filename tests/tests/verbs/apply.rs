//! Server-side apply, and who owns which field after each verb.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Api, Cluster, Options, must, with_every_kubectl};

use crate::in_order;

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx
        ports: [{containerPort: 80}]
";

/// The entries of an object's managers: `manager operation subresource` and the fields.
fn managers(cluster: &Cluster, object: &str) -> Result<Vec<(String, Value)>> {
    let text = cluster.kubectl(&["get", object, "-o", "json", "--show-managed-fields"])?.ok();
    let object: Value = serde_json::from_str(&text).context("an object")?;
    let entry = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let name = [text("manager"), text("operation"), text("subresource")].join(" ");
        (name.trim_end().to_owned(), entry["fieldsV1"].clone())
    };
    Ok(object["metadata"]["managedFields"].as_array().into_iter().flatten().map(entry).collect())
}

fn fields_of(cluster: &Cluster, object: &str, manager: &str) -> Result<Value> {
    let all = managers(cluster, object)?;
    let found = all.iter().find(|(name, _)| name == manager);
    Ok(found.with_context(|| format!("{manager} is not among {all:?}"))?.1.clone())
}

fn field(cluster: &Cluster, object: &str, path: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok())
}

#[test]
fn a_configuration_is_applied_changed_and_contested() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let web = cluster.write("web.yaml", WEB)?;
        let three = cluster.write("three.yaml", &WEB.replace("replicas: 0", "replicas: 3"))?;
        let apply = |arguments: &[&str]| cluster.kubectl(&[&["apply", "--server-side"], arguments].concat());
        let applied = "deployment.apps/web serverside-applied\n";
        assert_eq!(apply(&["-f", &web])?.ok(), applied);
        let container = json!({
            ".": {}, "f:name": {}, "f:image": {},
            "f:ports": {r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}},
        });
        assert_eq!(
            fields_of(cluster, "deployment/web", "kubectl Apply")?,
            json!({
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:replicas": {}, "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {"f:app": {}}},
                        "f:spec": {"f:containers": {r#"k:{"name":"web"}"#: container}},
                    },
                },
            })
        );
        // A dry run shows what would be and leaves what is.
        let dry = apply(&["-f", &three, "--dry-run=server", "-o", "jsonpath={.spec.replicas}"])?.ok();
        assert_eq!((dry.as_str(), field(cluster, "deployment/web", ".spec.replicas")?.as_str()), ("3", "0"));
        let diff = cluster.kubectl(&["diff", "--server-side", "-f", &three])?;
        assert_eq!(diff.code, Some(1));
        in_order(&diff.stdout, &["-  replicas: 0", "+  replicas: 3"]);
        assert_eq!(cluster.kubectl(&["diff", "--server-side", "-f", &web])?.code, Some(0));

        // Scaling takes the replicas over; whoever wants them back must say so.
        cluster.kubectl(&["scale", "deployment/web", "--replicas=1"])?.ok();
        assert_eq!(
            fields_of(cluster, "deployment/web", "kubectl Update scale")?,
            json!({"f:spec": {"f:replicas": {}}})
        );
        let conflict = apply(&["-f", &web])?.error();
        let named = r#"conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas"#;
        in_order(&conflict, &["Apply failed with 1 conflict:", named, "--force-conflicts"]);
        assert_eq!(apply(&["-f", &web, "--force-conflicts"])?.ok(), applied);
        assert_eq!(field(cluster, "deployment/web", ".spec.replicas")?, "0");
        assert!(fields_of(cluster, "deployment/web", "kubectl Update scale").is_err());

        // Another manager shares what it agrees with, and may not change the rest.
        assert_eq!(apply(&["-f", &web, "--field-manager=other"])?.ok(), applied);
        let conflict = apply(&["-f", &three, "--field-manager=other"])?.error();
        in_order(&conflict, &["Apply failed with 1 conflict:", r#"conflict with "kubectl": .spec.replicas"#]);
        Ok(())
    }));
}

#[test]
fn what_is_no_longer_applied_goes() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let config = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: one}}\ndata: {data}\n");
        let apply = |name: &str, data: &str| -> Result<()> {
            let file = cluster.write("config.yaml", &config(data))?;
            let manager = format!("--field-manager={name}");
            cluster.kubectl(&["apply", "--server-side", &manager, "-f", &file])?.ok();
            Ok(())
        };
        cluster.kubectl(&["create", "configmap", "one", "--from-literal=made=1"])?.ok();
        assert_eq!(fields_of(cluster, "cm/one", "kubectl-create Update")?, json!({"f:data": {".": {}, "f:made": {}}}));
        apply("first", "{a: '1', b: '1'}")?;
        apply("second", "{b: '1'}")?;
        cluster.kubectl(&["label", "cm/one", "l=1"])?.ok();
        let labels = fields_of(cluster, "cm/one", "kubectl-label Update")?;
        assert_eq!(labels, json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}}));
        apply("first", "{c: '1'}")?;
        assert_eq!(cluster.object(&["cm", "one"])?["data"], json!({"made": "1", "b": "1", "c": "1"}));
        apply("second", "{}")?;
        assert_eq!(cluster.object(&["cm", "one"])?["data"], json!({"made": "1", "c": "1"}));

        // The same again is no write.
        let version = field(cluster, "cm/one", ".metadata.resourceVersion")?;
        apply("first", "{c: '1'}")?;
        assert_eq!(field(cluster, "cm/one", ".metadata.resourceVersion")?, version);
        Ok(())
    }));
}

#[test]
fn an_object_of_client_side_apply_is_taken_over() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let web = cluster.write("web.yaml", WEB)?;
        cluster.kubectl(&["apply", "-f", &web])?.ok();
        let names = |cluster: &Cluster| -> Result<Vec<String>> {
            Ok(managers(cluster, "deployment/web")?.into_iter().map(|(name, _)| name).collect())
        };
        assert!(names(cluster)?.contains(&"kubectl-client-side-apply Update".to_owned()), "{:?}", names(cluster)?);
        let changed = cluster.write("changed.yaml", &WEB.replace("nginx", "nginx:1.25"))?;
        let answer = cluster.kubectl(&["apply", "--server-side", "-f", &changed])?.ok();
        assert_eq!(answer, "deployment.apps/web serverside-applied\n");
        assert_eq!(field(cluster, "deployment/web", ".spec.template.spec.containers[0].image")?, "nginx:1.25");
        assert!(!names(cluster)?.contains(&"kubectl-client-side-apply Update".to_owned()), "{:?}", names(cluster)?);
        // The annotation of client-side apply is kept up, so that going back works.
        let last = cluster.kubectl(&["apply", "view-last-applied", "deployment/web"])?.ok();
        assert!(last.contains("image: nginx:1.25"), "{last}");
        assert_eq!(cluster.kubectl(&["apply", "-f", &web])?.ok(), "deployment.apps/web configured\n");
        assert_eq!(field(cluster, "deployment/web", ".spec.template.spec.containers[0].image")?, "nginx");
        Ok(())
    }));
}

#[test]
fn bad_configurations_are_refused_and_ledgers_reset() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        cluster.kubectl(&["create", "configmap", "one", "--from-literal=a=1"])?.ok();
        let api = Api::new(cluster)?;
        let path = "/api/v1/namespaces/default/configmaps/one";
        let head = r#""apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"}"#;
        let long = format!("?fieldManager={}", "x".repeat(129));
        let cases = [
            ("", format!("{{{head}}}"), 422, "fieldManager: Required value: is required for apply patch"),
            (&*long, format!("{{{head}}}"), 422, "may not be more than 128 bytes"),
            ("?fieldManager=m", "{}".to_owned(), 400, "invalid object type: /, Kind="),
            ("?fieldManager=m", "a: {".to_owned(), 400, "error decoding YAML: "),
            ("?fieldManager=m", "[]".to_owned(), 400, "error decoding YAML: "),
            (
                "?fieldManager=m",
                format!("{{{head},\"dat\":{{}}}}"),
                500,
                "failed to create typed patch object (default/one; /v1, Kind=ConfigMap): .dat: field not declared in schema",
            ),
            (
                "?fieldManager=m",
                r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one","managedFields":[]}}"#.to_owned(),
                400,
                "metadata.managedFields must be nil",
            ),
            (
                "?fieldManager=m",
                format!("{{{}}}", head.replace("one", "two")),
                400,
                "does not match the name on the URL",
            ),
        ];
        let before = field(cluster, "cm/one", ".metadata.resourceVersion")?;
        for (query, body, code, message) in cases {
            let headers = ["Content-Type: application/apply-patch+yaml"];
            let reply = api.request("PATCH", &format!("{path}{query}"), &headers, &body)?;
            assert_eq!(reply.code, code, "{body}: {}", reply.text);
            let text = reply.body["message"].as_str().unwrap_or_default();
            assert!(text.contains(message), "{body}: {text}");
        }
        assert_eq!(field(cluster, "cm/one", ".metadata.resourceVersion")?, before);

        let merge = ["Content-Type: application/merge-patch+json"];
        let reply = api.request("PATCH", path, &merge, r#"{"metadata":{"managedFields":[{}]}}"#)?;
        assert_eq!((reply.code, &reply.body["metadata"]["managedFields"]), (200, &Value::Null));
        // Nobody is recorded until the next apply, which finds what is there to be older.
        cluster.kubectl(&["label", "cm/one", "l=1"])?.ok();
        assert!(managers(cluster, "cm/one")?.is_empty());
        let config = format!("{{{head},\"data\":{{\"a\":\"2\"}}}}");
        let headers = ["Content-Type: application/apply-patch+yaml"];
        let reply = api.request("PATCH", &format!("{path}?fieldManager=m"), &headers, &config)?;
        assert_eq!(reply.code, 409);
        assert_eq!(
            reply.body["details"]["causes"],
            json!([{
                "reason": "FieldManagerConflict",
                "message": r#"conflict with "before-first-apply" using v1"#,
                "field": ".data.a",
            }])
        );
        Ok(())
    }));
}
