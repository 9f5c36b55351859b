//! Webhooks that have a say in writes: shown what is written, in their turn, and heard.

use anyhow::{Result, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use tests::{Cluster, NODE_IP, Options, Webhook, eventually, must, with_every_kubectl};

use crate::{WAITER, in_order};

fn patch(operations: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

/// Sets a label, whether there are others or not.
fn label(request: &Value, key: &str, value: &str) -> Value {
    if request["object"].is_null() {
        return json!({"allowed": true});
    }
    match request["object"]["metadata"]["labels"].is_object() {
        true => patch(&json!([{"op": "add", "path": format!("/metadata/labels/{key}"), "value": value}])),
        false => patch(&json!([{"op": "add", "path": "/metadata/labels", "value": {key: value}}])),
    }
}

fn answer(path: &str, request: &Value) -> Value {
    match path {
        "/label" => label(request, "touched", "yes"),
        // How many data a ConfigMap had when this was asked last.
        "/count" => {
            label(request, "count", &request["object"]["data"].as_object().map_or(0, serde_json::Map::len).to_string())
        }
        "/fill" => match request["object"]["data"]["filled"].is_null() {
            true => patch(&json!([{"op": "add", "path": "/data", "value": {"filled": "by a webhook"}}])),
            false => json!({"allowed": true}),
        },
        "/deny" => json!({"allowed": false, "warnings": ["this will not do"],
            "status": {"code": 403, "message": "not on my watch"}}),
        "/half" => patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 2}])),
        _ => json!({"allowed": true, "warnings": ["seen by a webhook"]}),
    }
}

/// A webhook on `resources` of every group, at `client`, as `more` says.
fn hook(name: &str, client: &Value, resources: &[&str], more: Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}],
        // What the cluster itself does is not the test's.
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        hook[key] = value.clone();
    }
    hook
}

fn configure(cluster: &Cluster, kind: &str, name: &str, hooks: &[Value]) -> Result<()> {
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": hooks});
    cluster.apply(&object.to_string())
}

fn config_map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}).to_string()
}

/// Until the API server has heard of the last configuration: that it calls `path` for a dry run.
fn heard(cluster: &Cluster, webhook: &Webhook, path: &str, manifest: &str) {
    let before = webhook.seen(path).len();
    eventually("the API server calls the webhook", || {
        cluster.kubectl_input(&["create", "--dry-run=server", "-f", "-"], manifest)?;
        ensure!(webhook.seen(path).len() > before, "not called");
        Ok(())
    });
}

#[test]
fn webhooks_change_and_refuse_what_is_written() {
    must(with_every_kubectl(&Options::default(), |cluster| {
        let webhook = Webhook::start(cluster, &["hooks.default.svc"], answer)?;
        // One by its URL, one by a Service whose endpoint is made by hand.
        cluster.apply(
            &json!({"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hooks"},
                 "spec": {"ports": [{"port": 443, "targetPort": webhook.port}]}},
                {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                 "metadata": {"name": "hooks-1", "labels": {"kubernetes.io/service-name": "hooks"}},
                 "ports": [{"port": webhook.port}], "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": true}}]},
            ]})
            .to_string(),
        )?;
        let service = json!({"service": {"namespace": "default", "name": "hooks", "path": "/deny"},
            "caBundle": webhook.ca_bundle});
        let nobody = json!({"objectSelector": {"matchLabels": {"denied": "yes"}}});
        configure(cluster, "Mutating", "labels", &[hook("label", &webhook.at("/label"), &["configmaps"], json!({}))])?;
        configure(
            cluster,
            "Validating",
            "checks",
            &[
                hook("warn", &webhook.at("/warn"), &["configmaps"], json!({})),
                hook("deny", &service, &["configmaps"], nobody),
            ],
        )?;
        heard(cluster, &webhook, "/label", &config_map("dry"));
        heard(cluster, &webhook, "/warn", &config_map("dry"));

        let answered = cluster.kubectl(&["create", "configmap", "mine", "--from-literal=a=b"])?;
        assert!(answered.stderr.contains("Warning: seen by a webhook"), "{}", answered.stderr);
        answered.ok();
        assert_eq!(cluster.object(&["configmap", "mine"])?["metadata"]["labels"]["touched"], "yes");
        let review = webhook.seen("/warn").pop().expect("a review");
        assert_eq!(
            (&review["operation"], &review["name"], &review["namespace"]),
            (&json!("CREATE"), &json!("mine"), &json!("default"))
        );
        assert_eq!(review["userInfo"]["username"], "kubernetes-admin");
        assert_eq!(review["object"]["metadata"]["labels"]["touched"], "yes", "validated as mutated");
        assert!(review["object"]["metadata"]["uid"].is_string() && review["oldObject"].is_null());
        assert_eq!(review["options"]["kind"], "CreateOptions");

        // The Service's address is programmed a moment after it is made.
        let refused = eventually("the webhook behind the Service answers", || {
            let answer = cluster.kubectl(&["label", "configmap", "mine", "denied=yes", "--overwrite"])?;
            ensure!(answer.stderr.contains("denied the request"), "{}", answer.stderr);
            Ok(answer)
        });
        in_order(
            &refused.error(),
            &[
                "Warning: this will not do",
                "admission webhook \"deny.example.com\" denied the request: not on my watch",
            ],
        );
        let review = webhook.seen("/deny").pop().expect("a review");
        assert_eq!((&review["operation"], &review["options"]["kind"]), (&json!("UPDATE"), &json!("UpdateOptions")));
        assert_eq!(review["oldObject"]["metadata"]["labels"], json!({"touched": "yes"}));

        // One by one of a collection, and none of a collection that is refused.
        let deleted = webhook.seen("/warn").len();
        cluster.kubectl(&["delete", "configmap", "mine"])?.ok();
        let review = webhook.seen("/warn").split_off(deleted).remove(0);
        assert_eq!((&review["operation"], &review["object"]), (&json!("DELETE"), &Value::Null));
        assert_eq!(
            (&review["oldObject"]["data"], &review["options"]["kind"]),
            (&json!({"a": "b"}), &json!("DeleteOptions"))
        );

        // Gone with their configurations.
        cluster
            .kubectl(&["delete", "mutatingwebhookconfiguration/labels", "validatingwebhookconfiguration/checks"])?
            .ok();
        eventually("nobody is asked any more", || {
            let before = webhook.seen("/warn").len();
            cluster.kubectl_input(&["create", "--dry-run=server", "-f", "-"], &config_map("free"))?.ok();
            ensure!(webhook.seen("/warn").len() == before, "still called");
            Ok(())
        });
        Ok(())
    }));
}

#[test]
fn a_webhook_that_cannot_be_asked_fails_or_is_passed_over() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let webhook = Webhook::start(&cluster, &[], answer)?;
        let dead = json!({"url": format!("https://{NODE_IP}:9/gone"), "caBundle": webhook.ca_bundle});
        let of = |name: &str| json!({"matchLabels": {"for": name}});
        configure(
            &cluster,
            "Validating",
            "dead",
            &[
                hook("open", &dead, &["configmaps"], json!({"failurePolicy": "Ignore", "objectSelector": of("open")})),
                hook("closed", &dead, &["configmaps"], json!({"objectSelector": of("closed")})),
                hook(
                    "effects",
                    &webhook.at("/ok"),
                    &["configmaps"],
                    json!({"sideEffects": "NoneOnDryRun", "objectSelector": of("effects")}),
                ),
                hook("ready", &webhook.at("/ready"), &["configmaps"], json!({})),
            ],
        )?;
        heard(&cluster, &webhook, "/ready", &config_map("dry"));
        let labelled = |name: &str| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"for": name}}})
                .to_string()
        };
        let create = |name: &str, more: &[&str]| {
            let arguments = [&["create", "-f", "-"], more].concat();
            cluster.kubectl_input(&arguments, &labelled(name))
        };
        create("open", &[])?.ok();
        let closed = create("closed", &[])?.error();
        let told = format!(
            "Internal error occurred: failed calling webhook \"closed.example.com\": failed to call webhook: Post \
             \"https://{NODE_IP}:9/gone?timeout=5s\": dial tcp {NODE_IP}:9: connect: connection refused"
        );
        in_order(&closed, &["(InternalError)", &told]);
        create("effects", &["--dry-run=server"])?.ok();
        assert_eq!(webhook.seen("/ok")[0]["dryRun"], true);
        create("effects", &[])?.ok();
        assert_eq!(webhook.seen("/ok")[1]["dryRun"], false);
        // What configures webhooks passes none: a mistake can be mended.
        let itself = hook("itself", &dead, &["*/*"], json!({"namespaceSelector": {}}));
        configure(&cluster, "Validating", "itself", &[itself])?;
        eventually("it is called for everything", || {
            let answer = cluster.kubectl(&["create", "namespace", "late", "--dry-run=server"])?;
            ensure!(!answer.success, "not yet");
            Ok(())
        });
        cluster.kubectl(&["delete", "validatingwebhookconfiguration", "itself"])?.ok();
        cluster.finish()
    })());
}

#[test]
fn webhooks_are_asked_in_turn_about_what_they_select() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let webhook = Webhook::start(&cluster, &[], answer)?;
        let again = json!({"reinvocationPolicy": "IfNeeded"});
        let picky = json!({"namespaceSelector": {"matchLabels": {"team": "red"}}, "reinvocationPolicy": "IfNeeded"});
        configure(&cluster, "Mutating", "a", &[hook("count", &webhook.at("/count"), &["configmaps"], again)])?;
        configure(&cluster, "Mutating", "b", &[hook("fill", &webhook.at("/fill"), &["configmaps"], picky)])?;
        cluster.kubectl(&["create", "namespace", "red"])?.ok();
        cluster.kubectl(&["label", "namespace", "red", "team=red"])?.ok();
        let red = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dry", "namespace": "red"}});
        heard(&cluster, &webhook, "/fill", &red.to_string());

        cluster.kubectl(&["create", "configmap", "here"])?.ok();
        let here = cluster.object(&["configmap", "here"])?;
        assert_eq!((&here["metadata"]["labels"]["count"], &here["data"]), (&json!("0"), &Value::Null));
        // The later one's change is shown to the earlier one again.
        cluster.kubectl(&["-n", "red", "create", "configmap", "there"])?.ok();
        let there = cluster.object(&["-n", "red", "configmap", "there"])?;
        assert_eq!(
            (&there["metadata"]["labels"]["count"], &there["data"]["filled"]),
            (&json!("1"), &json!("by a webhook"))
        );

        // A rule about one version is about all: shown that version, told which was asked.
        let v1 = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
            "resources": ["horizontalpodautoscalers"]}]});
        let exact = json!({"rules": v1["rules"], "matchPolicy": "Exact"});
        configure(
            &cluster,
            "Mutating",
            "c",
            &[hook("label", &webhook.at("/label"), &[], v1), hook("exact", &webhook.at("/exact"), &[], exact)],
        )?;
        let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
        heard(&cluster, &webhook, "/label", &scaler.to_string());
        cluster.apply(&scaler.to_string())?;
        let stored = cluster.object(&["hpa.v2.autoscaling", "h"])?;
        assert_eq!(stored["metadata"]["labels"]["touched"], "yes");
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        let review = webhook.seen("/label").pop().expect("a review");
        assert_eq!(review["object"]["apiVersion"], "autoscaling/v1");
        assert_eq!(review["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!((&review["kind"]["version"], &review["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
        assert_eq!(
            review["requestResource"],
            json!({"group": "autoscaling", "version": "v2", "resource": "horizontalpodautoscalers"})
        );
        assert!(webhook.seen("/exact").is_empty());
        cluster.finish()
    })());
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - &version
    name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, default: 7}}}, status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
  - {<<: *version, name: v2, storage: false}
"#;

#[test]
fn custom_kinds_and_subresources_pass_too() {
    must((|| {
        let cluster = Cluster::start(Options::tutorial())?;
        let webhook = Webhook::start(&cluster, &[], answer)?;
        cluster.apply(DEFINITION)?;
        cluster.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"])?.ok();
        let stored = json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
            "resources": ["widgets", "widgets/status"]}]});
        configure(
            &cluster,
            "Mutating",
            "mutating",
            &[
                hook("widgets", &webhook.at("/label"), &[], stored),
                hook("scale", &webhook.at("/half"), &["deployments/scale"], json!({})),
            ],
        )?;
        let subresources = ["pods/exec", "pods/eviction", "pods/binding", "pods/status", "deployments/scale"];
        configure(
            &cluster,
            "Validating",
            "validating",
            &[hook("all", &webhook.at("/seen"), &subresources, json!({}))],
        )?;
        let widget = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "w"}, "spec": {}});
        heard(&cluster, &webhook, "/label", &widget.to_string());
        cluster.apply(&widget.to_string())?;
        let made = cluster.object(&["widgets.v2.example.com", "w"])?;
        assert_eq!((&made["metadata"]["labels"]["touched"], &made["spec"]["size"]), (&json!("yes"), &json!(7)));
        let review = webhook.seen("/label").pop().expect("a review");
        assert_eq!(
            (&review["object"]["apiVersion"], &review["requestKind"]["version"]),
            (&json!("example.com/v1"), &json!("v2"))
        );

        cluster.apply(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1,
                "selector": {"matchLabels": {"a": "d"}}, "template": {"metadata": {"labels": {"a": "d"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "busybox",
                    "imagePullPolicy": "Never", "command": ["sh", "-c", WAITER]}]}}}})
            .to_string(),
        )?;
        cluster.kubectl(&["rollout", "status", "deployment/d", "--timeout=30s"])?.ok();
        let last = |subresource: &str| {
            let mut seen = webhook.seen("/seen");
            seen.retain(|request| request["subResource"] == subresource);
            seen.pop().unwrap_or_else(|| panic!("{subresource} was not seen"))
        };
        let bound = last("binding");
        assert_eq!((&bound["operation"], &bound["kind"]["kind"]), (&json!("CREATE"), &json!("Binding")));
        assert_eq!(last("status")["kind"]["kind"], "Pod");

        let pod = cluster.kubectl(&["get", "pods", "-l", "a=d", "-o", "jsonpath={.items[0].metadata.name}"])?.ok();
        assert_eq!(cluster.kubectl(&["exec", &pod, "--", "echo", "hello"])?.ok().trim(), "hello");
        let exec = last("exec");
        assert_eq!(
            (&exec["operation"], &exec["name"], &exec["options"]),
            (&json!("CONNECT"), &json!(pod), &Value::Null)
        );
        assert_eq!(
            exec["object"],
            json!({"apiVersion": "v1", "kind": "PodExecOptions", "container": "c", "stdout": true, "stderr": true,
                "command": ["echo", "hello"]})
        );

        // Asked for five, a webhook makes it two.
        cluster.kubectl(&["scale", "deployment/d", "--replicas=5"])?.ok();
        assert_eq!(cluster.object(&["deployment", "d"])?["spec"]["replicas"], 2);
        let scale = last("scale");
        assert_eq!((&scale["kind"]["kind"], &scale["object"]["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
        assert_eq!(scale["oldObject"]["spec"]["replicas"], 1);

        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}});
        let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
        cluster.kubectl_input(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())?.ok();
        let evicted = last("eviction");
        assert_eq!((&evicted["kind"]["group"], &evicted["kind"]["kind"]), (&json!("policy"), &json!("Eviction")));
        cluster.finish()
    })());
}
