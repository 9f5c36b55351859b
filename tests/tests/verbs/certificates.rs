//! Certificates that are asked for through the API, and tokens by which a node may ask.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must};

use crate::in_order;

#[test]
fn an_approved_request_becomes_a_certificate_that_is_believed() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let key = KeyPair::generate()?;
        ask(&cluster, "jane", "kubernetes.io/kube-apiserver-client", &request(&key, "devs", "jane")?)?;
        let table = cluster.kubectl(&["get", "csr"])?.ok();
        in_order(&table, &["SIGNERNAME", "REQUESTEDDURATION", "jane", "kubernetes-admin", "60m", "Pending"]);
        cluster.kubectl(&["certificate", "approve", "jane"])?.ok();
        let certificate = issued(&cluster, "jane");
        in_order(&cluster.kubectl(&["get", "csr", "jane"])?.ok(), &["Approved,Issued"]);
        in_order(&whoami(&cluster, &certificate, &key)?, &["devs", "system:authenticated", "jane"]);

        // What its signer never signs.
        let serving = json!({"usages": ["server auth"]});
        make(&cluster, "odd", "kubernetes.io/kube-apiserver-client", &request(&key, "devs", "odd")?, &serving)?;
        cluster.kubectl(&["certificate", "approve", "odd"])?.ok();
        eventually("a refusal", || {
            let conditions = cluster.object(&["csr", "odd"])?["status"]["conditions"].clone();
            let failed = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Failed");
            let failed = failed.context("no condition says that it failed")?;
            assert_eq!(failed["reason"], "SignerValidationFailure");
            assert_eq!(failed["message"], "invalid usage for client certificate: server auth");
            Ok(())
        });
        // A denied one gets none.
        ask(&cluster, "bob", "kubernetes.io/kube-apiserver-client", &request(&key, "devs", "bob")?)?;
        cluster.kubectl(&["certificate", "deny", "bob"])?.ok();
        in_order(&cluster.kubectl(&["get", "csr", "bob"])?.ok(), &["Denied"]);
        cluster.finish()
    })());
}

#[test]
fn a_token_joins_a_node() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let (id, secret) = ("abcdef", "0123456789abcdef");
        let bearer = format!("Authorization: Bearer {id}.{secret}");
        let data = |more: Value| {
            let mut data = json!({"token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:sampan:default-node-token"});
            data.as_object_mut()
                .into_iter()
                .for_each(|data| data.extend(more.as_object().cloned().unwrap_or_default()));
            json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token", "stringData": data,
                "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"}})
        };
        let code = |header: &str| -> Result<String> {
            let url = "https://127.0.0.1:6443/apis/certificates.k8s.io/v1/certificatesigningrequests";
            Ok(cluster.node("curl", &["-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", header, url])?.stdout)
        };
        assert_eq!(code(&bearer)?, "401");
        cluster.apply(&data(json!({})).to_string())?;
        assert_eq!(code(&bearer)?, "200");
        assert_eq!(code("Authorization: Bearer abcdef.0123456789abcdee")?, "401");
        // Who holds it asks for a node's certificate, and gets it without anybody's doing.
        let key = KeyPair::generate()?;
        let asked = body(
            "one",
            "kubernetes.io/kube-apiserver-client-kubelet",
            &request(&key, "system:nodes", "system:node:two")?,
            &json!({}),
        );
        let url = "https://127.0.0.1:6443/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let arguments = ["-sfk", "-H", &bearer, "-H", "Content-Type: application/json", "-d", &asked.to_string(), url];
        cluster.node("curl", &arguments)?.ok();
        let certificate = issued(&cluster, "one");
        let requests = cluster.object(&["csr", "one"])?;
        assert_eq!(requests["spec"]["username"], "system:bootstrap:abcdef");
        assert_eq!(requests["status"]["conditions"][0]["reason"], "AutoApproved");
        in_order(&whoami(&cluster, &certificate, &key)?, &["system:nodes", "system:node:two"]);

        let listed = cluster.sampan(&["token", "list"])?.ok();
        in_order(&listed, &["TOKEN", "TTL", "EXTRA GROUPS", "abcdef.0123456789abcdef", "<forever>", "<never>"]);
        let made = cluster.sampan(&["token", "create", "--ttl", "1h", "--description", "for three"])?.ok();
        // With the hash of the server's authority before it, for the node to know whom it may believe.
        let (hash, made_bearer) = made.trim().split_once("::").context("K10<hash>::<token>")?;
        assert!(hash.len() == 67 && hash.starts_with("K10"), "{made}");
        assert_eq!(code(&format!("Authorization: Bearer {made_bearer}"))?, "200");
        in_order(
            &cluster.sampan(&["token", "list"])?.ok(),
            &[made_bearer, "59m", "authentication,signing", "for three"],
        );
        cluster.sampan(&["token", "delete", made.trim()])?.ok();
        assert_eq!(code(&format!("Authorization: Bearer {made_bearer}"))?, "401");
        in_order(&cluster.sampan(&["token", "create", "odd"])?.error(), &["\"odd\" was not of the form"]);

        // At its time it is deleted, and with it ends what it opened.
        let soon = cluster.node("date", &["-u", "-d", "+2 seconds", "+%Y-%m-%dT%H:%M:%SZ"])?.ok();
        cluster.apply(&data(json!({"expiration": soon.trim()})).to_string())?;
        cluster
            .kubectl(&["wait", "--for=delete", "secret/bootstrap-token-abcdef", "-n", "kube-system", "--timeout=30s"])?
            .ok();
        assert_eq!(code(&bearer)?, "401");
        cluster.finish()
    })());
}

fn request(key: &KeyPair, organization: &str, name: &str) -> Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params.serialize_request(key)?.pem()?)
}

fn body(name: &str, signer: &str, request: &str, rest: &Value) -> Value {
    let mut spec = json!({"request": STANDARD.encode(request), "signerName": signer, "expirationSeconds": 3600,
        "usages": ["digital signature", "client auth"]});
    spec.as_object_mut().into_iter().for_each(|spec| spec.extend(rest.as_object().cloned().unwrap_or_default()));
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name}, "spec": spec})
}

fn make(cluster: &Cluster, name: &str, signer: &str, request: &str, rest: &Value) -> Result<()> {
    cluster.kubectl_input(&["create", "-f", "-"], &body(name, signer, request, rest).to_string())?.ok();
    Ok(())
}

fn ask(cluster: &Cluster, name: &str, signer: &str, request: &str) -> Result<()> {
    make(cluster, name, signer, request, &json!({}))
}

fn issued(cluster: &Cluster, name: &str) -> String {
    let mut pem = String::new();
    eventually("a certificate", || {
        let request = cluster.object(&["csr", name])?;
        let text =
            request["status"]["certificate"].as_str().with_context(|| format!("none yet: {}", request["status"]))?;
        pem = String::from_utf8(STANDARD.decode(text)?)?;
        Ok(())
    });
    pem
}

/// Who the API server takes the holder of a certificate for.
fn whoami(cluster: &Cluster, certificate: &str, key: &KeyPair) -> Result<String> {
    let certificate = cluster.write("client.crt", certificate)?;
    let key = cluster.write("client.key", &key.serialize_pem())?;
    let asked = r#"{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}"#;
    let url = "https://127.0.0.1:6443/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let arguments =
        ["-sfk", "--cert", &certificate, "--key", &key, "-H", "Content-Type: application/json", "-d", asked, url];
    Ok(cluster.node("curl", &arguments)?.ok())
}
