//! `kubectl debug`: ephemeral containers beside what runs, and what they see of it.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, on_a_cluster, reaches, script};

#[test]
fn a_running_pod_is_debugged() {
    on_a_cluster(|cluster| {
        let quick = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0});
        create(cluster, "subject", &script("trap 'exit 0' TERM; sleep 3600 & wait"), &quick)?;
        reaches(cluster, "subject", "status.phase", "Running")?;
        beside_its_target(cluster)?;
        by_itself(cluster)?;
        what_never_starts_is_told(cluster)?;
        nobody_waits_for_it(cluster)
    });
}

fn debug(cluster: &Cluster, name: &str, more: &[&str], command: &str) -> Result<()> {
    let container = format!("--container={name}");
    let image = ["debug", "subject", "--image=busybox:1.37", "--image-pull-policy=IfNotPresent", "--profile=general"];
    let arguments = [&image[..], &[&container], more, &["--", "sh", "-c", command]].concat();
    cluster.kubectl(&arguments)?.ok();
    Ok(())
}

fn status(cluster: &Cluster, name: &str) -> Result<Value> {
    let pod = cluster.object(&["pod", "subject"])?;
    let all = pod["status"]["ephemeralContainerStatuses"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|status| status["name"] == name).with_context(|| format!("no status of {name}: {pod}"))
}

fn ended(cluster: &Cluster, name: &str) -> String {
    eventually("the end of a debugger", || {
        let status = status(cluster, name)?;
        ensure!(status["state"]["terminated"]["exitCode"] == 0, "{status}");
        ensure!(status["restartCount"] == 0 && status["ready"] == false && status.get("started").is_none(), "{status}");
        Ok(())
    });
    cluster.kubectl(&["logs", "subject", "-c", name]).map(|answer| answer.ok()).unwrap_or_default()
}

fn beside_its_target(cluster: &Cluster) -> Result<()> {
    debug(cluster, "near", &["--target=main"], "hostname; ps -o args")?;
    let seen = ended(cluster, "near");
    assert!(seen.starts_with("subject\n"), "the pod's own name: {seen}");
    assert!(seen.lines().any(|line| line == "sleep 3600"), "the target's processes: {seen}");
    has_event(cluster, "subject", "Normal Started Container started");
    let field = "-o=jsonpath={.items[*].involvedObject.fieldPath}";
    let fields = cluster.kubectl(&["get", "events", "--field-selector=involvedObject.name=subject", field])?.ok();
    assert!(fields.contains("spec.ephemeralContainers{near}"), "{fields}");
    Ok(())
}

fn by_itself(cluster: &Cluster) -> Result<()> {
    debug(cluster, "apart", &[], "ps -o args")?;
    let seen = ended(cluster, "apart");
    assert!(!seen.contains("sleep 3600"), "{seen}");
    debug(cluster, "stays", &["--target=main"], "sleep 1800")?;
    eventually("a running debugger", || {
        ensure!(status(cluster, "stays")?["state"].get("running").is_some(), "not yet");
        Ok(())
    });
    let seen = cluster.kubectl(&["exec", "subject", "-c", "stays", "--", "ps", "-o", "args"])?.ok();
    assert!(seen.contains("sleep 3600") && seen.contains("sleep 1800"), "{seen}");
    Ok(())
}

fn what_never_starts_is_told(cluster: &Cluster) -> Result<()> {
    let image = ["debug", "subject", "--image=absent:1", "--image-pull-policy=Never", "--container=absent"];
    cluster.kubectl(&[&image[..], &["--", "true"]].concat())?.ok();
    eventually("a reason", || {
        let status = status(cluster, "absent")?;
        ensure!(status["state"]["waiting"]["reason"] == "ErrImageNeverPull", "{status}");
        Ok(())
    });
    Ok(())
}

/// The pod is over when its own containers are.
fn nobody_waits_for_it(cluster: &Cluster) -> Result<()> {
    debug(cluster, "alone", &[], "sleep 1800")?;
    eventually("a running debugger", || {
        ensure!(status(cluster, "alone")?["state"].get("running").is_some(), "not yet");
        Ok(())
    });
    cluster.kubectl(&["exec", "subject", "-c", "stays", "--", "kill", "1"])?;
    reaches(cluster, "subject", "status.phase", "Succeeded")?;
    for name in ["stays", "alone"] {
        eventually("the end of a debugger", || {
            let status = status(cluster, name)?;
            ensure!(status["state"].get("terminated").is_some(), "{status}");
            Ok(())
        });
    }
    Ok(())
}
