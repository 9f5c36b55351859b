//! Pods that end before their containers would, and containers with a restart policy of their own.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, on_a_cluster, reaches, script, with};

#[test]
fn pods_and_containers_end_as_their_spec_says() {
    on_a_cluster(|cluster| {
        deadline(cluster)?;
        policies_of_containers(cluster)?;
        gates(cluster)?;
        last_words(cluster)?;
        signals_and_names(cluster)
    });
}

fn deadline(cluster: &Cluster) -> Result<()> {
    let traps = "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    create(cluster, "brief", &script(traps), &json!({"activeDeadlineSeconds": 3, "restartPolicy": "Always"}))?;
    reaches(cluster, "brief", "status.phase", "Failed")?;
    let status = &cluster.object(&["pod", "brief"])?["status"];
    assert_eq!(status["reason"], "DeadlineExceeded", "{status}");
    assert_eq!(status["message"], "Pod was active on the node longer than the specified deadline");
    assert!(status["containerStatuses"][0]["state"].get("terminated").is_some(), "told once nothing runs: {status}");
    has_event(
        cluster,
        "brief",
        "Normal DeadlineExceeded Pod was active on the node longer than the specified deadline",
    );
    assert_eq!(super::log(cluster, "brief")?, "ready\ntold\n", "its processes were asked to end");
    Ok(())
}

fn policies_of_containers(cluster: &Cluster) -> Result<()> {
    let container = |name: &str, run: &str, more: &Value| {
        with(with(json!({"name": name, "image": "busybox:1.37"}), &script(run)), more)
    };
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    // The second instance ends with another code, which the rule does not name.
    let twice = "if [ -e /shared/again ]; then exit 7; fi; touch /shared/again; exit 42";
    let mount = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let ruled = with(mount, &json!({"restartPolicy": "Never", "restartPolicyRules": rule}));
    let containers = json!([
        container("once", "exit 1", &json!({"restartPolicy": "Never"})),
        container("ruled", twice, &ruled),
        container("stays", "sleep infinity", &json!({})),
    ]);
    let spec = json!({
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "containers": containers,
        "volumes": [{"name": "shared", "emptyDir": {}}],
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mixed"}, "spec": spec});
    cluster.apply(&pod.to_string())?;
    let of = |name: &str| -> Result<Value> {
        let status = cluster.object(&["pod", "mixed"])?["status"]["containerStatuses"].clone();
        Ok(status.as_array().into_iter().flatten().find(|status| status["name"] == name).cloned().unwrap_or_default())
    };
    for (name, restarts, code) in [("ruled", 1, 7), ("once", 0, 1)] {
        eventually("an end", || {
            let status = of(name)?;
            let (count, state) = (&status["restartCount"], &status["state"]["terminated"]["exitCode"]);
            ensure!((count, state) == (&json!(restarts), &json!(code)), "{status}");
            Ok(())
        });
    }
    assert_eq!(cluster.object(&["pod", "mixed"])?["status"]["phase"], "Running");
    cluster.kubectl(&["delete", "pod", "mixed"])?.ok();
    Ok(())
}

fn gates(cluster: &Cluster) -> Result<()> {
    let gate = json!({"readinessGates": [{"conditionType": "example.test/open"}], "terminationGracePeriodSeconds": 0});
    create(cluster, "gated", &script("sleep infinity"), &gate)?;
    reaches(cluster, "gated", "status.conditions[?(@.type==\"Ready\")].reason", "ReadinessGatesNotReady")?;
    let condition = json!({"status": {"conditions": [{"type": "example.test/open", "status": "True"}]}});
    cluster.kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", &condition.to_string()])?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/gated", "--timeout=60s"])?.ok();
    Ok(())
}

/// What an ended container leaves behind: its file, else by its policy the end of its log where it failed.
fn last_words(cluster: &Cluster) -> Result<()> {
    let fallback = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    let elsewhere = json!({"terminationMessagePath": "/tmp/words"});
    let table: [(&str, &str, Value, Value); 5] = [
        ("file", "echo -n kept > /dev/termination-log; echo logged; exit 1", json!({}), json!("kept")),
        ("path", "echo -n kept > /tmp/words; exit 0", elsewhere, json!("kept")),
        ("nothing", "echo logged; exit 1", json!({}), Value::Null),
        ("log", "echo one; echo two; exit 1", fallback.clone(), json!("one\ntwo\n")),
        ("well", "echo logged; exit 0", fallback, Value::Null),
    ];
    for (name, run, fields, _) in &table {
        create(cluster, name, &with(script(run), fields), &json!({}))?;
    }
    for (name, _, _, message) in &table {
        eventually(name, || {
            let ended =
                cluster.object(&["pod", name])?["status"]["containerStatuses"][0]["state"]["terminated"].clone();
            ensure!(ended["exitCode"].is_number(), "{ended}");
            ensure!(ended["message"] == *message, "{ended}");
            Ok(())
        });
    }
    Ok(())
}

/// The signal that asks it to end, and the name that it sees itself by.
fn signals_and_names(cluster: &Cluster) -> Result<()> {
    let traps = "trap 'echo usr1; exit 0' USR1; trap 'echo term; exit 0' TERM; hostname; while :; do sleep 0.1; done";
    let spec = json!({"os": {"name": "linux"}, "hostnameOverride": "other.example.com", "activeDeadlineSeconds": 3});
    create(cluster, "signalled", &with(script(traps), &json!({"lifecycle": {"stopSignal": "SIGUSR1"}})), &spec)?;
    reaches(cluster, "signalled", "status.phase", "Failed")?;
    // Runtimes are told from v1.33 of the interface on; containerd 1.6 sends the image's.
    let signal = if cluster.containerd.is_some() { "term" } else { "usr1" };
    assert_eq!(super::log(cluster, "signalled")?, format!("other.example.com\n{signal}\n"));
    Ok(())
}
