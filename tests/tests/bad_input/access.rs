//! Callers who show nothing, or something wrong, or ask for what they may not.

use anyhow::Result;
use serde_json::json;
use tests::{Api, Cluster, NODE_IP, Options, eventually, must};

use crate::in_order;

#[test]
fn nobody_gets_in_without_credentials() {
    must((|| {
        let cluster = Cluster::start(Options::default())?;
        let api = Api::new(&cluster)?;
        let unauthorized = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Unauthorized", "reason": "Unauthorized", "code": 401 });
        for (method, path) in [
            ("GET", "/api/v1/pods"),
            ("GET", "/api/v1/namespaces/kube-system/secrets"),
            ("POST", "/api/v1/namespaces/default/pods"),
            ("DELETE", "/api/v1/namespaces/default"),
            ("GET", "/apis"),
            ("GET", "/openapi/v2"),
            ("GET", "/nowhere"),
        ] {
            let reply = api.anonymous(method, path, &[])?;
            assert_eq!((reply.code, &reply.body), (401, &unauthorized), "{method} {path}");
        }
        let reply = api.anonymous("GET", "/api/v1/pods", &["Authorization: Bearer made-up"])?;
        assert_eq!((reply.code, &reply.body), (401, &unauthorized));
        // Only health and version are for everyone.
        assert_eq!(api.anonymous("GET", "/readyz", &[])?.text, "ok");
        assert_eq!(api.anonymous("GET", "/version", &[])?.body["minor"], "36");

        foreign_certificates_are_refused(&cluster)?;
        impersonation_needs_a_right(&cluster, &api)?;
        assert_eq!(api.get("/readyz")?.text, "ok");
        cluster.finish()
    })());
}

fn foreign_certificates_are_refused(cluster: &Cluster) -> Result<()> {
    let (key, certificate) = (cluster.write("foreign.key", "")?, cluster.write("foreign.pem", "")?);
    let subject = "/O=system:masters/CN=admin";
    let arguments =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &certificate];
    cluster.node("openssl", &arguments)?.ok();
    let url = "https://127.0.0.1:6443/api/v1/pods";
    // With TLS 1.3 the client may learn of it as an alert or as a closed connection.
    let refused = cluster.node("curl", &["-sSk", "--cert", &certificate, "--key", &key, url])?;
    assert_eq!(refused.stdout, "");
    in_order(&refused.error(), &["curl:"]);
    let plain = cluster.node("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:6443/api/v1/pods"])?.error();
    in_order(&plain, &["curl:"]);
    // The node's own API, by which logs and commands go.
    let node = format!("https://{NODE_IP}:10250/containerLogs/default/web/web");
    eventually("the node's API listens", || {
        let answer = cluster.node("curl", &["-sSk", "-o", "/dev/null", "-w", "%{http_code}", &node])?;
        anyhow::ensure!(answer.stdout == "401", "{answer:?}");
        Ok(())
    });
    Ok(())
}

fn impersonation_needs_a_right(cluster: &Cluster, api: &Api<'_>) -> Result<()> {
    // An administrator may be anyone, and then has only that one's rights.
    let bob = cluster.kubectl(&["get", "pods", "--as=bob"])?.error();
    assert_eq!(
        bob,
        "Error from server (Forbidden): pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"\n"
    );
    cluster.kubectl(&["get", "pods", "--as=bob", "--as-group=system:masters"])?.ok();
    let masters = ["Impersonate-Group: system:masters"];
    assert_eq!(api.request("GET", "/api/v1/pods", &masters, "")?.code, 500);
    let reply = api.anonymous("GET", "/api/v1/pods", &["Impersonate-User: admin", masters[0]])?;
    assert_eq!(reply.code, 401);
    // Even where anyone may ask, nobody becomes someone else.
    let reply = api.anonymous("GET", "/version", &["Impersonate-User: admin", masters[0]])?;
    assert_eq!((reply.code, &reply.body["reason"]), (403, &json!("Forbidden")));
    Ok(())
}
