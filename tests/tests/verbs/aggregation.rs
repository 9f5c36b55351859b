//! An API server that others wrote, behind this one: routes, identities, conditions, discovery; and back ends in HTTPS.

use std::io::{BufRead as _, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::{Api, Asked, Backend, Cluster, NODE_IP, Options, Trust, authority, eventually, must};

use crate::in_order;

const GROUP: &str = "wardle.example.com";
const API: &str = "/apis/wardle.example.com/v1alpha1";
const NAMESPACED: &str = "/apis/wardle.example.com/v1alpha1/namespaces/";

/// What the aggregated server holds.
#[derive(Default)]
struct Flunders {
    objects: Mutex<Vec<Value>>,
    asked: Mutex<Vec<Asked>>,
    watchers: Mutex<Vec<Sender<Value>>>,
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(out: &mut dyn Write, status: &str, value: &Value) -> Result<()> {
    let text = value.to_string();
    let head = "Content-Type: application/json\r\nConnection: close";
    write!(out, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    Ok(())
}

impl Flunders {
    fn serve(&self, asked: &Asked, out: &mut dyn Write) -> Result<()> {
        lock(&self.asked).push(asked.clone());
        let path = asked.path().to_owned();
        match path.as_str() {
            API => return answer(out, "200 OK", &resources()),
            "/openapi/v3" => {
                let url = format!("/openapi/v3{API}?hash=0123");
                return answer(out, "200 OK", &json!({"paths": {API[1..]: {"serverRelativeURL": url}}}));
            }
            "/openapi/v2" => return answer(out, "200 OK", &older_document()),
            _ if path == format!("{API}/stream") => {
                ensure!(asked.all("upgrade") == ["words"], "{:?}", asked.headers);
                write!(
                    out,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\nhello\n"
                )?;
                return Ok(());
            }
            _ if path == format!("/openapi/v3{API}") => return answer(out, "200 OK", &document()),
            _ if path == format!("{API}/away") => {
                write!(out, "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(());
            }
            _ => {}
        }
        let (namespace, name) = match path.strip_prefix(NAMESPACED).and_then(|rest| rest.split_once("/flunders")) {
            Some((namespace, name)) => (namespace.to_owned(), name.trim_start_matches('/').to_owned()),
            None if path == format!("{API}/flunders") => (String::new(), String::new()),
            None => return answer(out, "404 Not Found", &failure("NotFound", 404)),
        };
        let here = |object: &Value| namespace.is_empty() || object["metadata"]["namespace"] == *namespace;
        let is = |object: &Value| here(object) && (name.is_empty() || object["metadata"]["name"] == *name);
        match asked.method.as_str() {
            "GET" if asked.target.contains("watch=") => self.watch(out),
            "GET" if name.is_empty() => {
                let items: Vec<Value> = lock(&self.objects).iter().filter(|object| here(object)).cloned().collect();
                let list = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "FlunderList",
                    "metadata": {"resourceVersion": "1"}, "items": items});
                answer(out, "200 OK", &list)
            }
            "GET" => match lock(&self.objects).iter().find(|object| is(object)) {
                Some(object) => answer(out, "200 OK", object),
                None => answer(out, "404 Not Found", &failure("NotFound", 404)),
            },
            "POST" => {
                let mut object: Value = serde_json::from_slice(&asked.body)?;
                object["metadata"]["namespace"] = namespace.clone().into();
                object["metadata"]["uid"] = "00000000-0000-0000-0000-000000000001".into();
                object["metadata"]["resourceVersion"] = "2".into();
                object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
                lock(&self.objects).push(object.clone());
                let event = json!({"type": "ADDED", "object": object});
                lock(&self.watchers).retain(|watcher| watcher.send(event.clone()).is_ok());
                answer(out, "201 Created", &object)
            }
            "DELETE" => {
                lock(&self.objects).retain(|object| !is(object));
                answer(out, "200 OK", &json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}))
            }
            _ => answer(out, "405 Method Not Allowed", &failure("MethodNotAllowed", 405)),
        }
    }

    fn watch(&self, out: &mut dyn Write) -> Result<()> {
        let (send, events): (Sender<Value>, Receiver<Value>) = channel();
        lock(&self.watchers).push(send);
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        out.flush()?;
        for event in events {
            let line = format!("{event}\n");
            write!(out, "{:x}\r\n{line}\r\n", line.len())?;
            out.flush()?;
        }
        Ok(())
    }

    /// The last request for a path.
    fn last(&self, path: &str) -> Result<Asked> {
        lock(&self.asked)
            .iter()
            .rev()
            .find(|asked| asked.path() == path)
            .cloned()
            .context("it was never asked for that")
    }
}

fn failure(reason: &str, code: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": reason})
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1alpha1"), "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "shortNames": ["fl"],
            "verbs": ["create", "delete", "deletecollection", "get", "list", "watch"]},
        {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}]})
}

fn document() -> Value {
    let kind = json!({"group": GROUP, "version": "v1alpha1", "kind": "Flunder"});
    let operation = json!({"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": kind, "responses": {}});
    json!({"openapi": "3.0.0", "info": {"title": "wardle", "version": "1"},
        "paths": {format!("{API}/namespaces/{{namespace}}/flunders"): {"get": operation}},
        "components": {"schemas": {"com.example.wardle.v1alpha1.Flunder": {"type": "object",
            "description": "Flunder is an example.", "x-kubernetes-group-version-kind": [kind],
            "properties": {"spec": {"type": "object", "description": "What it is to be.",
                "properties": {"reference": {"type": "string", "description": "What it refers to."}}}}}}}})
}

fn older_document() -> Value {
    let kind = json!([{"group": GROUP, "version": "v1alpha1", "kind": "Flunder"}]);
    let flunder = json!({"$ref": "#/definitions/com.example.wardle.v1alpha1.Flunder"});
    json!({"swagger": "2.0", "info": {"title": "wardle", "version": "1"},
        "paths": {
            format!("{API}/namespaces/{{namespace}}/flunders"): {"get": {"responses": {"200": {"description": "OK", "schema": flunder}}}},
            "/healthz": {"get": {"responses": {"200": {"description": "OK"}}}}},
        "definitions": {
            "com.example.wardle.v1alpha1.Flunder": {"type": "object", "x-kubernetes-group-version-kind": kind},
            "com.example.wardle.v1alpha1.Unused": {"type": "object"}}})
}

fn api_service(ca: &str) -> String {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": format!("v1alpha1.{GROUP}")},
        "spec": {"group": GROUP, "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "service": {"namespace": "wardle", "name": "api"}, "caBundle": STANDARD.encode(ca)}})
    .to_string()
}

fn service() -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wardle"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "wardle"},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}}]})
    .to_string()
}

fn slice(ready: bool) -> String {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "api", "namespace": "wardle", "labels": {"kubernetes.io/service-name": "api"}},
        "endpoints": [{"addresses": [NODE_IP], "conditions": {"ready": ready}}],
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}]})
    .to_string()
}

/// As `kubectl get apiservices` shows it, by event.
fn shown(cluster: &Cluster, expected: &str) {
    eventually(expected, || {
        let table = cluster.kubectl(&["get", "apiservices", &format!("v1alpha1.{GROUP}")])?.ok();
        ensure!(table.contains(expected), "{table}");
        Ok(())
    });
}

fn flunder(name: &str) -> String {
    json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "Flunder", "metadata": {"name": name},
        "spec": {"reference": "none"}})
    .to_string()
}

#[test]
fn an_aggregated_server_is_used_as_any_group() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let (ca, issuer) = authority("wardle")?;
        let flunders = Arc::new(Flunders::default());
        let proxies = trusted(&cluster);
        let start = || {
            let held = flunders.clone();
            let answering = Arc::new(move |asked: &Asked, out: &mut dyn Write| held.serve(asked, out));
            Backend::start(&cluster, 8443, (&issuer, "api.wardle.svc"), &Trust::Of(&proxies), answering)
        };
        cluster.apply(&api_service(&ca))?;
        shown(&cluster, "False (ServiceNotFound)");
        cluster.apply(&service())?;
        shown(&cluster, "False (EndpointsNotFound)");
        cluster.apply(&slice(false))?;
        shown(&cluster, "False (MissingEndpoints)");
        let refused = cluster.kubectl(&["get", "--raw", API])?.error();
        in_order(&refused, &["the server is currently unable to handle the request"]);
        cluster.apply(&slice(true))?;
        shown(&cluster, "False (FailedDiscoveryCheck)");
        let backend = start()?;
        shown(&cluster, "True");

        used(&cluster, &flunders)?;
        identities(&cluster, &flunders)?;
        upgraded(&cluster)?;
        told(&cluster)?;
        let away = curl(&cluster, &format!("{API}/away"), &["-w", "%{http_code}"])?;
        assert_eq!(away, "the backend attempted to redirect this request, which is not permitted\n502");

        // It dies without any object's saying so: whoever needs it finds out, and so does everybody.
        backend.kill(&cluster)?;
        in_order(
            &cluster.kubectl(&["get", "flunders"])?.error(),
            &["the server is currently unable to handle the request"],
        );
        shown(&cluster, "False (FailedDiscoveryCheck)");
        // The others are still known, and so is that the group exists.
        in_order(&cluster.kubectl(&["api-resources"])?.stdout, &["configmaps"]);
        in_order(&cluster.kubectl(&["get", "--raw", "/apis"])?.ok(), &["wardle.example.com/v1alpha1"]);
        // A namespace stays while it may hold what nobody can see; all else in it goes.
        cluster.kubectl(&["create", "namespace", "held"])?.ok();
        cluster.kubectl(&["create", "configmap", "c", "-n", "held"])?.ok();
        cluster.kubectl(&["delete", "namespace", "held", "--wait=false"])?.ok();
        let told = "--for=condition=NamespaceDeletionDiscoveryFailure";
        cluster.kubectl(&["wait", told, "namespace/held", "--timeout=20s"])?.ok();
        assert_eq!(
            cluster.kubectl(&["get", "configmap", "c", "-n", "held", "--ignore-not-found", "-o", "name"])?.ok(),
            ""
        );
        let _again = start()?;
        shown(&cluster, "True");
        cluster.kubectl(&["wait", "--for=delete", "namespace/held", "--timeout=30s"])?.ok();
        cluster.kubectl(&["get", "flunders"])?.ok();

        // What a namespace holds there goes with it.
        cluster.kubectl(&["create", "namespace", "other"])?.ok();
        cluster.kubectl_input(&["create", "--validate=false", "-n", "other", "-f", "-"], &flunder("there"))?.ok();
        cluster.kubectl(&["delete", "namespace", "other", "--timeout=30s"])?.ok();
        let left = lock(&flunders.objects).iter().any(|object| object["metadata"]["namespace"] == "other");
        ensure!(!left, "a flunder outlived its namespace");

        cluster.kubectl(&["delete", "apiservice", &format!("v1alpha1.{GROUP}")])?.ok();
        eventually("the group is gone", || {
            ensure!(!cluster.kubectl(&["api-resources"])?.ok().contains("flunders"));
            Ok(())
        });
        cluster.finish()
    })());
}

/// The authority of front proxies, as extension servers read it.
fn trusted(cluster: &Cluster) -> String {
    let mut pem = String::new();
    eventually("what extension servers are to believe", || {
        let map = cluster.object(&["configmap", "extension-apiserver-authentication", "-n", "kube-system"])?;
        let data = |key: &str| map["data"][key].as_str().unwrap_or("").to_owned();
        ensure!(data("client-ca-file").starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(data("requestheader-allowed-names"), r#"["front-proxy-client"]"#);
        assert_eq!(data("requestheader-username-headers"), r#"["X-Remote-User"]"#);
        pem = data("requestheader-client-ca-file");
        Ok(())
    });
    pem
}

fn curl(cluster: &Cluster, path: &str, more: &[&str]) -> Result<String> {
    let kubeconfig = std::fs::read_to_string(cluster.data_dir().join("kubeconfig.yaml"))?;
    let file = |key: &str| -> Result<String> {
        let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        cluster.write(key, &String::from_utf8(STANDARD.decode(line.context("no such line")?)?)?)
    };
    let (certificate, key) = (file("client-certificate-data")?, file("client-key-data")?);
    let url = format!("https://127.0.0.1:6443{path}");
    let arguments = [&["-sk", "--cert", &certificate, "--key", &key], more, &[&*url]].concat();
    Ok(cluster.node("curl", &arguments)?.ok())
}

fn used(cluster: &Cluster, flunders: &Flunders) -> Result<()> {
    in_order(
        &cluster.kubectl(&["api-resources"])?.ok(),
        &["flunders", "fl", "wardle.example.com/v1alpha1", "true", "Flunder"],
    );
    let mut watch = cluster.kubectl_command(&["get", "flunders", "-w", "-o", "name"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    eventually("a watch", || {
        ensure!(!lock(&flunders.watchers).is_empty());
        Ok(())
    });
    cluster.kubectl_input(&["create", "--validate=false", "-f", "-"], &flunder("mine"))?.ok();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().context("piped")?).read_line(&mut line)?;
    watch.kill()?;
    watch.wait()?;
    assert_eq!(line.trim(), "flunder.wardle.example.com/mine");
    in_order(&cluster.kubectl(&["get", "fl"])?.ok(), &["NAME", "AGE", "mine"]);
    in_order(
        &cluster.kubectl(&["explain", "flunder.spec"])?.ok(),
        &["What it is to be.", "reference", "What it refers to."],
    );
    cluster.kubectl(&["delete", "flunder", "mine", "--wait=false"])?.ok();
    assert_eq!(cluster.kubectl(&["get", "flunders", "-o", "name"])?.ok(), "");
    Ok(())
}

/// A connection that leaves HTTP goes through.
fn upgraded(cluster: &Cluster) -> Result<()> {
    let mut client = Api::new(cluster)?.tls()?;
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = client.stdin.take().context("piped")?;
    write!(input, "GET {API}/stream HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: words\r\n\r\n")?;
    let mut lines = BufReader::new(client.stdout.take().context("piped")?).lines();
    let head = lines.next().context("an answer")??;
    assert_eq!(head, "HTTP/1.1 101 Switching Protocols");
    let said = lines.find(|line| line.as_ref().map_or(true, |line| line == "hello")).context("nothing was said")?;
    assert_eq!(said?, "hello");
    client.kill()?;
    client.wait()?;
    Ok(())
}

/// What it tells of its types is told here, and whether it is there.
fn told(cluster: &Cluster) -> Result<()> {
    let document: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/openapi/v2"])?.ok())?;
    let definitions = &document["definitions"];
    ensure!(definitions["com.example.wardle.v1alpha1.Flunder"]["type"] == "object", "it is not in the document");
    ensure!(
        definitions["com.example.wardle.v1alpha1.Unused"].is_null()
            && definitions["io.k8s.api.core.v1.Pod"].is_object()
    );
    ensure!(document["paths"][format!("{API}/namespaces/{{namespace}}/flunders")].is_object());
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"])?.ok();
    let name = format!("name=\"v1alpha1.{GROUP}\"");
    for line in [
        format!("aggregator_unavailable_apiservice{{{name}}} 0\n"),
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"}".to_owned(),
    ] {
        ensure!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    Ok(())
}

fn identities(cluster: &Cluster, flunders: &Flunders) -> Result<()> {
    let path = format!("{NAMESPACED}default/flunders");
    let lies =
        ["X-Remote-User: evil", "X-Remote-Group: worse", "X-Remote-Extra-Scope: all", "Authorization: Bearer mine"];
    let lies: Vec<&str> = lies.iter().flat_map(|lie| ["-H", *lie]).collect();
    curl(cluster, &path, &lies)?;
    let asked = flunders.last(&path)?;
    assert_eq!(asked.all("x-remote-user"), ["kubernetes-admin"]);
    assert_eq!(asked.all("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert!(asked.all("x-remote-extra-scope").is_empty() && asked.all("authorization").is_empty());
    let acting =
        ["Impersonate-User: jane", "Impersonate-Group: system:masters", "Impersonate-Extra-Example.com%2Fscopes: x"];
    let acting: Vec<&str> = acting.iter().flat_map(|header| ["-H", *header]).collect();
    curl(cluster, &path, &acting)?;
    let asked = flunders.last(&path)?;
    assert_eq!(asked.all("x-remote-user"), ["jane"]);
    assert_eq!(asked.all("x-remote-extra-example.com%2fscopes"), ["x"]);
    assert!(asked.all("impersonate-user").is_empty());
    // Who may not is told so here.
    let refused = cluster.kubectl(&["get", "flunders", "--as", "jane"])?.error();
    in_order(&refused, &["flunders.wardle.example.com is forbidden: User \"jane\" cannot list resource \"flunders\""]);
    Ok(())
}

#[test]
fn defined_groups_have_an_api_service_while_they_last() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let local = cluster.kubectl(&["get", "apiservices", "v1.apps"])?.ok();
        in_order(&local, &["SERVICE", "AVAILABLE", "v1.apps", "Local", "True"]);
        cluster.apply(
            r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "boats.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}"#,
        )?;
        cluster.kubectl(&["wait", "--for=create", "apiservice/v1.example.com", "--timeout=10s"])?.ok();
        let made = cluster.object(&["apiservice", "v1.example.com"])?;
        assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
        assert_eq!(made["status"]["conditions"][0]["reason"], "Local");
        // It is not a user's to take away, nor to change.
        cluster.kubectl(&["delete", "apiservice", "v1.example.com"])?.ok();
        cluster.kubectl(&["wait", "--for=create", "apiservice/v1.example.com", "--timeout=10s"])?.ok();
        let ranked = r#"{"spec":{"versionPriority":7}}"#;
        cluster.kubectl(&["patch", "apiservice", "v1.example.com", "--type=merge", "-p", ranked])?.ok();
        let back = "--for=jsonpath={.spec.versionPriority}=100";
        cluster.kubectl(&["wait", back, "apiservice/v1.example.com", "--timeout=10s"])?.ok();
        // One that names a Service decides who answers, also for what is defined here.
        cluster.kubectl(&["label", "apiservice", "v1.example.com", "kube-aggregator.kubernetes.io/automanaged-"])?.ok();
        let elsewhere = r#"{"spec":{"service":{"namespace":"default","name":"nobody"},"insecureSkipTLSVerify":true}}"#;
        cluster.kubectl(&["patch", "apiservice", "v1.example.com", "--type=merge", "-p", elsewhere])?.ok();
        let boats = "/apis/example.com/v1/namespaces/default/boats";
        eventually("somebody else is asked", || {
            let asked = cluster.kubectl(&["get", "--raw", boats])?;
            ensure!(
                asked.stderr.contains("currently unable to handle the request"),
                "{}{}",
                asked.stdout,
                asked.stderr
            );
            Ok(())
        });
        cluster.kubectl(&["delete", "apiservice", "v1.example.com"])?.ok();
        eventually("boats are answered for here again", || {
            let asked = cluster.kubectl(&["get", "--raw", boats])?;
            ensure!(asked.stdout.contains("BoatList"), "{}{}", asked.stdout, asked.stderr);
            Ok(())
        });
        cluster.kubectl(&["delete", "crd", "boats.example.com"])?.ok();
        cluster.kubectl(&["wait", "--for=delete", "apiservice/v1.example.com", "--timeout=10s"])?.ok();
        cluster.finish()
    })());
}

#[test]
fn back_ends_of_proxies_may_speak_https() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let (_, issuer) = authority("nobody knows it")?;
        let answering = Arc::new(|asked: &Asked, out: &mut dyn Write| answer(out, "200 OK", &json!(asked.target)));
        let _backend = Backend::start(&cluster, 8443, (&issuer, "web"), &Trust::Nobodys, answering)?;
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                "spec": {"ports": [{"name": "tls", "port": 443, "targetPort": 8443}]}},
            {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": [{
                "addresses": [{"ip": NODE_IP, "targetRef": {"kind": "Pod", "name": "web", "namespace": "default"}}],
                "ports": [{"name": "tls", "port": 8443}]}]}]});
        cluster.apply(&objects.to_string())?;
        for name in ["https:web:443", "https:web:tls"] {
            let path = format!("/api/v1/namespaces/default/services/{name}/proxy/a/b?c=d");
            assert_eq!(cluster.kubectl(&["get", "--raw", &path])?.ok(), "\"/a/b?c=d\"");
        }
        let node = "/api/v1/nodes/https:one:8443/proxy/x";
        assert_eq!(cluster.kubectl(&["get", "--raw", node])?.ok(), "\"/x\"");
        // The same in plain HTTP is no answer at all.
        let plain = cluster.kubectl(&["get", "--raw", "/api/v1/namespaces/default/services/web:443/proxy/"])?;
        ensure!(!plain.success, "{}", plain.stdout);
        cluster.finish()
    })());
}
