//! Both plug-ins before a webhook of this process, over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::testing::{Asked as Request_, labelled};
use super::hook::Hook;
use super::*;

const PODS: Gvr = Gvr::of("", "v1", "pods");

/// Answers each path in its own way, and keeps what it was sent.
struct Server {
    address: SocketAddr,
    bundle: String,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The response, without its uid.
fn response(path: &str, request: &Value) -> Value {
    let patch = |operations: Value| json!({"allowed": true, "patchType": "JSONPatch", "patch": base64(&operations.to_string())});
    match path {
        "/allow" => json!({"allowed": true}),
        "/warn" => json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}}),
        "/deny" => json!({"allowed": false, "status": {"code": 403, "message": "no", "reason": "Forbidden"}}),
        "/label" => patch(json!([{"op": "add", "path": "/metadata/labels/touched", "value": "yes"}])),
        // Says how many containers it has seen.
        "/count" => {
            let count = request["object"]["spec"]["containers"].as_array().map_or(0, Vec::len);
            patch(json!([{"op": "add", "path": "/metadata/labels/count", "value": count.to_string()}]))
        }
        "/sidecar" => {
            let containers = request["object"]["spec"]["containers"].as_array();
            match containers.is_some_and(|all| all.iter().any(|one| one["name"] == "sidecar")) {
                true => json!({"allowed": true}),
                false => patch(json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "sidecar"}}])),
            }
        }
        "/nonsense" => patch(json!([{"op": "remove", "path": "/no/such/place"}])),
        "/undecodable" => json!({"allowed": true, "patchType": "JSONPatch", "patch": base64("{")}),
        "/other-type" => {
            json!({"allowed": true, "patchType": "Merge", "patch": base64("[{\"op\":\"test\",\"path\":\"\",\"value\":1}]")})
        }
        "/other-uid" => json!({"allowed": true, "uid": "other"}),
        other => panic!("no such webhook: {other}"),
    }
}

async fn answer(seen: &Mutex<Vec<(String, Value)>>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/broken" {
        return Response::builder().status(500).body(Full::from("boom")).expect("an answer");
    }
    if path == "/hang" {
        std::future::pending::<()>().await;
    }
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let review: Value = serde_json::from_slice(&body).expect("a review");
    let mut response = response(&path, &review["request"]);
    if response.get("uid").is_none() {
        response["uid"] = review["request"]["uid"].clone();
    }
    seen.lock().expect("no panic").push((path, review["request"].clone()));
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    Response::new(Full::from(answer.to_string()))
}

impl Server {
    async fn start() -> Self {
        let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![signed.cert.der().clone()], key).expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), kept.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(|request| {
                        let seen = seen.clone();
                        async move { Ok::<_, Infallible>(answer(&seen, request).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(tls), service).await);
                });
            }
        });
        Self { address, bundle: base64(&signed.cert.pem()), seen }
    }

    /// A webhook at `path`, as `more` changes it.
    fn hook(&self, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{}.example.com", path.trim_start_matches('/')),
            "clientConfig": {"url": format!("https://{}{path}", self.address), "caBundle": self.bundle},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        });
        for (key, value) in more.as_object().expect("an object") {
            hook[key] = value.clone();
        }
        hook
    }

    /// What came to `path`.
    fn seen(&self, path: &str) -> Vec<Value> {
        let seen = self.seen.lock().expect("no panic");
        seen.iter().filter(|(at, _)| at == path).map(|(_, request)| request.clone()).collect()
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").iter().map(|(path, _)| path.clone()).collect()
    }
}

struct Nowhere;

#[async_trait::async_trait]
impl machinery_dial::Resolver for Nowhere {
    async fn resolve(&self, _: &str, name: &str, _: u16) -> Result<(String, u16), String> {
        Err(format!("service {name:?} not found"))
    }
}

/// The plug-ins with these webhooks, in one configuration of each kind.
fn webhooks(mutating: Vec<Value>, validating: Vec<Value>) -> Webhooks {
    let chain = Arc::new(Chain::new(&Default::default(), &Arc::default()));
    let made = Webhooks::new(labelled(&[("a", &[])]), chain, Arc::default());
    let dialer = Dialer::new(Arc::new(Nowhere), Tasks::root("test"));
    for (index, hooks) in [(&made.mutating, mutating), (&made.validating, validating)] {
        if !hooks.is_empty() {
            let configuration = json!({"metadata": {"name": "mine"}, "webhooks": hooks});
            index.put("mine", Hook::all_of(&configuration, &dialer).expect("webhooks"));
        }
    }
    made
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {}},
        "spec": {"containers": [{"name": "main"}]}})
}

fn create() -> Request_ {
    Request_::new(PODS, "a", "p", Operation::Create).by("jane", &["devs"])
}

/// Both rounds, as the write path goes.
async fn mutated(webhooks: &Webhooks, asked: &Request_, mut object: Value) -> Result<Value, Status> {
    let plugin = webhooks.mutating();
    let attributes = asked.attributes(None);
    plugin.mutate(&attributes, &mut object).await?;
    if asked.begins_second() {
        plugin.mutate(&attributes, &mut object).await?;
    }
    Ok(object)
}

async fn validated(webhooks: &Webhooks, asked: &Request_) -> Result<(), Status> {
    webhooks.validating().validate(&asked.attributes(None), Some(&pod())).await
}

#[tokio::test]
async fn without_configurations_nothing_is_looked_at() {
    let none = webhooks(vec![], vec![]);
    assert!(!none.mutating().handles(&PODS, None, Operation::Create));
    let server = Server::start().await;
    let rules =
        json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    let some = webhooks(vec![server.hook("/allow", rules)], vec![]);
    let handles = |gvr: &Gvr, sub, operation| some.mutating().handles(gvr, sub, operation);
    assert!(handles(&PODS, None, Operation::Create));
    assert!(!handles(&PODS, None, Operation::Update) && !handles(&PODS, Some("status"), Operation::Create));
    assert!(!handles(&Gvr::of("", "v1", "secrets"), None, Operation::Create));
    let all = webhooks(vec![server.hook("/allow", json!({}))], vec![]);
    let itself = Gvr::of("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations");
    assert!(!all.mutating().handles(&itself, None, Operation::Delete));
}

#[tokio::test]
async fn a_review_says_everything() {
    let server = Server::start().await;
    let hooks = webhooks(vec![], vec![server.hook("/warn", json!({}))]);
    let asked = create().owned(r#"[{"manager": "kubectl"}]"#, "[]");
    assert_eq!(validated(&hooks, &asked).await, Ok(()));
    assert_eq!(asked.told().take(), ["careful"]);
    assert_eq!(asked.told().take_annotations(true)["warn.example.com/k"], "v");
    let mut review = server.seen("/warn").remove(0);
    let uid = review["uid"].take();
    assert_eq!(uid.as_str().map(str::len), Some(36));
    let (kind, resource) = (
        json!({"group": "", "version": "v1", "kind": "Any"}),
        json!({"group": "", "version": "v1", "resource": "pods"}),
    );
    let mut object = pod();
    object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    assert_eq!(
        review,
        json!({"uid": null, "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
            "name": "p", "namespace": "a", "operation": "CREATE", "dryRun": false,
            "userInfo": {"username": "jane", "groups": ["devs"]}, "object": object, "oldObject": null,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}})
    );
}

#[tokio::test]
async fn refusals_and_failures() {
    let server = Server::start().await;
    let validate = async |hook: Value| validated(&webhooks(vec![], vec![hook]), &create()).await;
    let said = async |hook: Value| validate(hook).await.map_err(|status| (status.code, status.message));

    let denied = "admission webhook \"deny.example.com\" denied the request: no";
    assert_eq!(said(server.hook("/deny", json!({}))).await, Err((403, denied.into())));
    assert_eq!(said(server.hook("/deny", json!({"failurePolicy": "Ignore"}))).await, Err((403, denied.into())));

    let broken = "Internal error occurred: failed calling webhook \"broken.example.com\": failed to call webhook: an error \
                  on the server (\"boom\") has prevented the request from succeeding";
    assert_eq!(said(server.hook("/broken", json!({}))).await, Err((500, broken.into())));
    assert_eq!(validate(server.hook("/broken", json!({"failurePolicy": "Ignore"}))).await, Ok(()));

    let hung = said(server.hook("/hang", json!({"timeoutSeconds": 1}))).await.expect_err("no answer");
    let late = format!(
        "failed to call webhook: Post \"https://{}/hang?timeout=1s\": context deadline exceeded",
        server.address
    );
    assert!(hung.0 == 500 && hung.1.ends_with(&late), "{hung:?}");

    let (code, message) = said(server.hook("/other-uid", json!({}))).await.expect_err("another's answer");
    assert!(code == 500 && message.contains("received invalid webhook response: expected response.uid="), "{message}");

    let service = json!({"clientConfig": {"service": {"namespace": "a", "name": "gone"}, "caBundle": server.bundle}});
    let (_, gone) = said(server.hook("/allow", service)).await.expect_err("no such service");
    assert!(gone.ends_with("Post \"https://gone.a.svc:443/?timeout=10s\": service \"gone\" not found"), "{gone}");

    let unreadable = json!({"clientConfig": {"url": "https://127.0.0.1", "caBundle": base64("x")}});
    let (_, unreadable) = said(server.hook("/allow", unreadable)).await.expect_err("no authority");
    assert!(unreadable.contains("could not get REST client: unable to load root certificates"), "{unreadable}");

    let older = said(server.hook("/allow", json!({"admissionReviewVersions": ["v0"]}))).await.expect_err("not spoken");
    assert!(older.1.contains("webhook does not accept known AdmissionReview versions (v1, v1beta1)"), "{older:?}");
}

#[tokio::test]
async fn a_dry_run_reaches_only_those_without_side_effects() {
    let server = Server::start().await;
    for (effects, expected) in [("None", true), ("NoneOnDryRun", true), ("Some", false), ("Unknown", false)] {
        let hooks = webhooks(vec![], vec![server.hook("/allow", json!({"sideEffects": effects}))]);
        let answer = validated(&hooks, &create().dry()).await;
        assert_eq!(answer.is_ok(), expected, "{effects}");
        if let Err(status) = answer {
            let message = "admission webhook \"allow.example.com\" does not support dry run";
            assert_eq!((status.code, status.message.as_str()), (400, message));
        }
        assert_eq!(validated(&hooks, &create()).await, Ok(()), "{effects}");
    }
    assert_eq!(server.seen("/allow")[0]["dryRun"], true);
}

#[tokio::test]
async fn patches_change_the_object_in_order() {
    let server = Server::start().await;
    let hooks = webhooks(vec![server.hook("/sidecar", json!({})), server.hook("/count", json!({}))], vec![]);
    let asked = create();
    let object = mutated(&hooks, &asked, pod()).await.expect("admitted");
    assert_eq!(object["spec"]["containers"][1]["name"], "sidecar");
    assert_eq!(object["metadata"]["labels"]["count"], "2");
    assert_eq!(server.paths(), ["/sidecar", "/count"], "nobody asked to see it again");
    let annotations = asked.told().take_annotations(true);
    let first = &annotations["mutation.webhook.admission.k8s.io/round_0_index_0"];
    assert_eq!(
        serde_json::from_str::<Value>(first).expect("json"),
        json!({"configuration": "mine", "webhook": "sidecar.example.com", "mutated": true})
    );
    let patch = &annotations["patch.webhook.admission.k8s.io/round_0_index_0"];
    assert_eq!(
        serde_json::from_str::<Value>(patch).expect("json"),
        json!({"configuration": "mine", "webhook": "sidecar.example.com", "patchType": "JSONPatch",
            "patch": [{"op": "add", "path": "/spec/containers/-", "value": {"name": "sidecar"}}]})
    );
}

#[tokio::test]
async fn who_asks_to_sees_it_again_when_a_later_one_changed_it() {
    let server = Server::start().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = webhooks(
        vec![server.hook("/count", again.clone()), server.hook("/label", json!({})), server.hook("/sidecar", again)],
        vec![],
    );
    let object = mutated(&hooks, &create(), pod()).await.expect("admitted");
    assert_eq!(object["metadata"]["labels"], json!({"count": "2", "touched": "yes"}));
    // The second count is a change again, which the sidecar's webhook wants to see.
    assert_eq!(server.paths(), ["/count", "/label", "/sidecar", "/count", "/sidecar"]);
}

#[tokio::test]
async fn in_tree_changes_are_shown_again_too() {
    let server = Server::start().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = webhooks(vec![server.hook("/label", again)], vec![]);
    let (plugin, asked) = (hooks.mutating(), create());
    let (attributes, mut object) = (asked.attributes(None), pod());
    plugin.mutate(&attributes, &mut object).await.expect("admitted");
    assert!(asked.begins_second());
    object["spec"]["priority"] = json!(0);
    plugin.mutate(&attributes, &mut object).await.expect("admitted");
    assert_eq!(server.paths(), ["/label", "/label"]);
}

#[tokio::test]
async fn bad_patches() {
    let server = Server::start().await;
    let said = async |path: &str, more: Value| {
        let hooks = webhooks(vec![server.hook(path, more)], vec![]);
        mutated(&hooks, &create(), pod()).await.map(|_| ()).map_err(|status| (status.code, status.message))
    };
    let ignore = json!({"failurePolicy": "Ignore"});
    let (code, message) = said("/undecodable", json!({})).await.expect_err("no patch");
    assert!(code == 500 && message.contains("received undecodable patch in webhook response: "), "{message}");
    assert_eq!(said("/undecodable", ignore.clone()).await, Ok(()));
    let (code, message) = said("/other-type", json!({})).await.expect_err("another type");
    assert!(code == 500 && message.ends_with("unsupported patch type \"Merge\""), "{message}");
    // Whatever the policy: the answer came, and cannot be.
    assert_eq!(said("/nonsense", ignore).await.expect_err("no such place").0, 500);

    let hooks = webhooks(vec![server.hook("/label", json!({}))], vec![]);
    let asked = Request_::new(PODS, "a", "p", Operation::Delete);
    let deleted = hooks.mutating().validate(&asked.attributes(Some(&pod())), None).await.expect_err("no object");
    assert_eq!(
        deleted.message,
        "Internal error occurred: admission webhook \"label.example.com\" attempted to modify the object, which is not \
         supported for this operation"
    );
    assert_eq!(server.seen("/label")[0]["oldObject"], pod());
}

#[tokio::test]
async fn conditions_keep_a_webhook_out() {
    let server = Server::start().await;
    let ask = async |expression: &str| {
        let conditions = json!({"matchConditions": [{"name": "c", "expression": expression}]});
        validated(&webhooks(vec![], vec![server.hook("/deny", conditions)]), &create()).await
    };
    assert_eq!(ask("object.metadata.name != 'p'").await, Ok(()));
    assert_eq!(ask("request.userInfo.username == 'jane'").await.expect_err("asked").code, 403);
    let failed = ask("object.spec.nope == 1").await.expect_err("no such field");
    assert_eq!(
        (failed.code, failed.message.as_str()),
        (403, "pods \"p\" is forbidden: expression 'object.spec.nope == 1' resulted in error: no such key: nope")
    );
    assert_eq!(server.paths(), ["/deny"]);
}

#[tokio::test]
async fn an_equivalent_version_is_shown_converted() {
    let server = Server::start().await;
    let gvr = |version| Gvr::of("autoscaling", version, "horizontalpodautoscalers");
    let rules = json!({"rules": [{"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"]}]});
    let hooks = webhooks(vec![server.hook("/label", rules)], vec![]);
    let asked = Request_::new(gvr("v2"), "a", "h", Operation::Create).also(gvr("v1"));
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "Any", "metadata": {"labels": {}}});
    let object = mutated(&hooks, &asked, object).await.expect("admitted");
    assert_eq!(
        (&object["apiVersion"], &object["metadata"]["labels"]["touched"]),
        (&json!("autoscaling/v2"), &json!("yes"))
    );
    let review = server.seen("/label").remove(0);
    assert_eq!(review["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!((&review["kind"]["version"], &review["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!((&review["resource"]["version"], &review["requestResource"]["version"]), (&json!("v1"), &json!("v2")));
}

#[tokio::test]
async fn the_first_refusal_counts_and_all_are_asked() {
    let server = Server::start().await;
    let named = |name: &str| server.hook("/deny", json!({"name": name}));
    let hooks = webhooks(vec![], vec![server.hook("/allow", json!({})), named("one"), named("two")]);
    let refused = validated(&hooks, &create()).await.expect_err("refused");
    assert!(refused.message.contains("\"one\""), "{}", refused.message);
    assert_eq!(server.paths().len(), 3);
}
