//! Pods that are nobody's yet, or that their node does not take.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use super::{create, has_event, on_a_cluster, reaches, script};

#[test]
fn pods_wait_for_whoever_takes_them_and_fail_where_nobody_may() {
    on_a_cluster(|cluster| {
        refused(cluster)?;
        left_alone(cluster)
    });
}

fn refused(cluster: &Cluster) -> Result<()> {
    let sysctl =
        |name: &str| json!({"nodeName": "one", "securityContext": {"sysctls": [{"name": name, "value": "1024"}]}});
    let table: [(&str, Value, &str, &str); 4] = [
        (
            "sysctl",
            sysctl("net.core.somaxconn"),
            "SysctlForbidden",
            "forbidden sysctl: \"net.core.somaxconn\" not allowlisted",
        ),
        (
            "labels",
            json!({"nodeName": "one", "nodeSelector": {"disk": "ssd"}}),
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            "system",
            json!({"nodeName": "one", "os": {"name": "windows"}}),
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ),
        (
            "selector",
            json!({"nodeName": "one", "nodeSelector": {"kubernetes.io/os": "windows"}}),
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ),
    ];
    for (name, spec, reason, why) in &table {
        create(cluster, name, &json!({}), spec)?;
        reaches(cluster, name, "status.phase", "Failed")?;
        let status = &cluster.object(&["pod", name])?["status"];
        assert_eq!(status["reason"], *reason, "{status}");
        assert_eq!(status["message"], format!("Pod was rejected: {why}"));
        has_event(cluster, name, &format!("Warning {reason} {why}"));
    }
    cluster.kubectl(&["label", "node", "one", "disk=ssd"])?.ok();
    create(cluster, "labelled", &script("exit 0"), &table[1].1)?;
    reaches(cluster, "labelled", "status.phase", "Succeeded")
}

/// Of another scheduler, and held back by a gate: neither is placed.
fn left_alone(cluster: &Cluster) -> Result<()> {
    create(cluster, "others", &script("exit 0"), &json!({"schedulerName": "another"}))?;
    create(cluster, "gated", &script("exit 0"), &json!({"schedulingGates": [{"name": "example.com/wait"}]}))?;
    eventually("the gate is told", || {
        let condition = &cluster.object(&["pod", "gated"])?["status"]["conditions"][0];
        ensure!(condition["reason"] == "SchedulingGated" && condition["type"] == "PodScheduled", "{condition}");
        Ok(())
    });
    // One that comes later is placed: it is not that the scheduler does nothing.
    create(cluster, "later", &script("exit 0"), &json!({}))?;
    reaches(cluster, "later", "status.phase", "Succeeded")?;
    for name in ["others", "gated"] {
        let pod = cluster.object(&["pod", name])?;
        assert!(pod["spec"].get("nodeName").is_none(), "{name}: {}", pod["spec"]["nodeName"]);
        assert_eq!(pod["status"]["phase"], "Pending", "{name}");
    }
    assert!(cluster.object(&["pod", "others"])?["status"].get("conditions").is_none(), "nobody looked at it");
    let open = r#"{"spec": {"schedulingGates": []}}"#;
    cluster.kubectl(&["patch", "pod", "gated", "--type=merge", "-p", open])?.ok();
    reaches(cluster, "gated", "status.phase", "Succeeded")
}
