//! Static pods: files of the node that it runs by itself, shown by mirror pods.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must};

use super::log;

#[test]
fn files_are_pods_with_or_without_an_api() {
    must((|| {
        let directory = tempfile::tempdir()?;
        let files = directory.path();
        std::fs::write(files.join("web.yaml"), manifest("web", "echo first; sleep infinity"))?;
        let arguments = vec!["--pod-manifest-path".to_owned(), files.to_string_lossy().into_owned()];
        let mut cluster = Cluster::start(Options { arguments, ..Options::tutorial() })?;
        a_mirror_shows_it(&cluster)?;
        a_deleted_mirror_comes_back(&cluster)?;
        a_restart_finds_it(&mut cluster)?;
        files_are_followed(&cluster, files)?;
        bad_files_are_told(&cluster, files)?;
        cluster.finish()
    })());
}

fn manifest(name: &str, script: &str) -> String {
    let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", script]});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"run": name}}, "spec": spec})
        .to_string()
}

fn running(cluster: &Cluster, name: &str) -> Value {
    let mut pod = Value::Null;
    eventually(&format!("{name} runs"), || {
        pod = cluster.object(&["pod", name])?;
        ensure!(pod["status"]["phase"] == "Running" && pod["status"]["containerStatuses"][0]["ready"] == true, "{pod}");
        Ok(())
    });
    pod
}

fn a_mirror_shows_it(cluster: &Cluster) -> Result<()> {
    let pod = running(cluster, "web-one");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file", "{annotations}");
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"], "{annotations}");
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Node"), &json!("one")));
    assert_eq!(pod["spec"]["tolerations"][0], json!({"operator": "Exists", "effect": "NoExecute"}));
    assert_eq!(pod["spec"].get("serviceAccountName"), None, "{}", pod["spec"]);
    assert!(pod["status"]["podIP"].is_string());
    assert_eq!(log(cluster, "web-one")?, "first\n");
    let hostname = cluster.kubectl(&["exec", "web-one", "--", "hostname"])?.ok();
    assert_eq!(hostname.trim(), "web-one");
    Ok(())
}

/// The pod itself does not notice.
fn a_deleted_mirror_comes_back(cluster: &Cluster) -> Result<()> {
    let before = running(cluster, "web-one");
    cluster.kubectl(&["delete", "pod", "web-one", "--wait=false"])?.ok();
    eventually("another mirror", || {
        let pod = cluster.object(&["pod", "web-one"])?;
        ensure!(pod["metadata"]["uid"] != before["metadata"]["uid"], "the same");
        Ok(())
    });
    let after = running(cluster, "web-one");
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&before), id(&after));
    Ok(())
}

fn a_restart_finds_it(cluster: &mut Cluster) -> Result<()> {
    let before = running(cluster, "web-one");
    cluster.stop_server(Signal::SIGTERM)?;
    cluster.start_server()?;
    let after = running(cluster, "web-one");
    let state =
        |pod: &Value| (pod["metadata"]["uid"].clone(), pod["status"]["containerStatuses"][0]["containerID"].clone());
    assert_eq!(state(&before), state(&after));
    Ok(())
}

/// What a file says now is what runs; of several documents each.
fn files_are_followed(cluster: &Cluster, files: &Path) -> Result<()> {
    std::fs::write(files.join("web.yaml"), manifest("web", "echo second; sleep infinity"))?;
    eventually("what the file says now", || {
        let log = cluster.kubectl(&["logs", "web-one"])?.stdout;
        ensure!(log == "second\n", "{log}");
        Ok(())
    });
    let both = format!("{}\n---\n{}\n", manifest("left", "sleep infinity"), manifest("right", "sleep infinity"));
    std::fs::write(files.join(".two"), &both)?;
    std::fs::rename(files.join(".two"), files.join("two.yaml"))?;
    running(cluster, "left-one");
    running(cluster, "right-one");
    std::fs::remove_file(files.join("two.yaml"))?;
    std::fs::remove_file(files.join("web.yaml"))?;
    eventually("no pod", || {
        let left = cluster.kubectl(&["get", "pods", "-o", "name"])?.ok();
        ensure!(left.is_empty(), "{left}");
        Ok(())
    });
    Ok(())
}

fn bad_files_are_told(cluster: &Cluster, files: &Path) -> Result<()> {
    let bad = manifest("bad", "true").replace("\"spec\":{", "\"spec\":{\"serviceAccountName\":\"me\",");
    std::fs::write(files.join("bad.yaml"), bad)?;
    std::fs::write(files.join("good.yaml"), manifest("good", "sleep infinity"))?;
    running(cluster, "good-one");
    let log = cluster.log();
    let told = log.lines().any(|line| {
        line.contains("bad.yaml")
            && line.contains("spec.serviceAccountName: static pods may not reference service accounts")
    });
    assert!(told, "the file is named in the log");
    std::fs::remove_file(files.join("bad.yaml"))?;
    Ok(())
}
