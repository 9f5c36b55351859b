//! Probes over HTTPS and gRPC, with headers of their own.

use anyhow::Result;
use serde_json::{Value, json};
use tests::Cluster;

use super::{create, has_event, log, on_a_cluster, with};

#[test]
fn probes_speak_https_and_grpc() {
    on_a_cluster(|cluster| {
        secured(cluster)?;
        health(cluster)
    });
}

fn probed(probe: &Value, script: &str) -> Value {
    let timing = json!({"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5});
    json!({"image": "nginx", "command": ["sh", "-c", script], "readinessProbe": with(timing, probe)})
}

/// Serves by this configuration of a server; `before` runs first.
fn nginx(before: &str, server: &str) -> String {
    let http = format!(
        "events {{}} http {{ log_format own '$http_user_agent $http_x_own $http_host'; \
         access_log /dev/stdout own; server {{ {server} }} }}"
    );
    format!("{before}; echo \"{}\" > /tmp/c; exec nginx -c /tmp/c -g 'daemon off;'", http.replace('$', "\\$"))
}

fn ready(cluster: &Cluster, pod: &str, wanted: bool) -> Result<()> {
    let condition = format!("--for=condition=Ready={wanted}");
    cluster.kubectl(&["wait", &condition, &format!("pod/{pod}"), "--timeout=60s"])?.ok();
    Ok(())
}

fn secured(cluster: &Cluster) -> Result<()> {
    let pair = rcgen::generate_simple_self_signed(vec!["other.test".to_owned()])?;
    let files =
        [cluster.write("tls.crt", &pair.cert.pem())?, cluster.write("tls.key", &pair.signing_key.serialize_pem())?];
    let [crt, key] = files.each_ref().map(|file| file.as_str());
    cluster.kubectl(&["create", "secret", "tls", "pair", &format!("--cert={crt}"), &format!("--key={key}")])?.ok();
    let server = "listen 8443 ssl; ssl_certificate /pair/tls.crt; ssl_certificate_key /pair/tls.key; return 204;";
    let headers = json!([{"name": "X-Own", "value": "yes"}, {"name": "Host", "value": "own.test"}]);
    let get = json!({"httpGet": {"scheme": "HTTPS", "port": 8443, "path": "/", "httpHeaders": headers}});
    let mounts = json!({"volumeMounts": [{"name": "pair", "mountPath": "/pair"}]});
    let volume = json!({"volumes": [{"name": "pair", "secret": {"secretName": "pair"}}]});
    let quick = with(volume, &json!({"terminationGracePeriodSeconds": 0}));
    create(cluster, "secured", &with(probed(&get, &nginx("true", server)), &mounts), &quick)?;
    ready(cluster, "secured", true)?;
    let asked = log(cluster, "secured")?;
    assert!(asked.lines().any(|line| line == "kube-probe/1.36 yes own.test"), "{asked}");
    Ok(())
}

/// A file is the answer, and its gRPC status a trailer.
fn health(cluster: &Cluster) -> Result<()> {
    let answer = |status: u8| format!("printf '\\000\\000\\000\\000\\002\\010\\00{status}' > /tmp/health");
    let server = "listen 9090 http2; root /tmp; default_type application/grpc; \
        location = /grpc.health.v1.Health/Check { error_page 404 =200 /health; } \
        location = /health { add_trailer grpc-status 0; }";
    let grpc = json!({"grpc": {"port": 9090, "service": "db"}});
    let quick = json!({"terminationGracePeriodSeconds": 0});
    create(cluster, "health", &probed(&grpc, &nginx(&answer(2), server)), &quick)?;
    has_event(
        cluster,
        "health",
        "Warning Unhealthy Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
    );
    cluster.kubectl(&["exec", "health", "--", "sh", "-c", &answer(1)])?.ok();
    ready(cluster, "health", true)?;
    let deaf = json!({"grpc": {"port": 9191}});
    create(cluster, "deaf", &probed(&deaf, "exec sleep 3600"), &quick)?;
    has_event(cluster, "deaf", "Warning Unhealthy Readiness probe failed: error: failed to connect service at");
    Ok(())
}
