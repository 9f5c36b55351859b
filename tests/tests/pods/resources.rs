//! What requests and limits become on the node: cgroups by class of service, bounds of whole pods, what the node keeps back.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must};

use super::{create, reaches, script};

#[test]
fn requests_and_limits_reach_the_kernel() {
    must((|| {
        let mut options = Options::tutorial();
        let node =
            ["--system-reserved", "cpu=100m,memory=64Mi", "--kube-reserved", "memory=64Mi", "--pod-max-pids", "40"];
        options.arguments.extend(node.map(str::to_owned));
        let cluster = Cluster::start(options)?;
        allocatable(&cluster)?;
        classes(&cluster)?;
        whole_pods(&cluster)?;
        processes(&cluster)?;
        cluster.finish()
    })());
}

/// Bytes of an amount in binary units.
fn bytes(node: &Value, list: &str, resource: &str) -> Result<i64> {
    let text = node["status"][list][resource].as_str().with_context(|| format!("{list} {resource}"))?;
    let digits = text.trim_end_matches(char::is_alphabetic);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        other => bail!("unit {other} of {resource}"),
    };
    Ok(digits.parse::<i64>()? << shift)
}

fn allocatable(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.object(&["nodes"])?;
    let node = &nodes["items"][0];
    let mut kept = bytes(node, "capacity", "memory")? - bytes(node, "allocatable", "memory")?;
    for pages in ["hugepages-2Mi", "hugepages-1Gi"] {
        // Not every kernel has both sizes; what is set aside for one is no memory for anything else.
        kept -= bytes(node, "capacity", pages).unwrap_or_default();
    }
    // With what pods are evicted before they have it.
    assert_eq!(kept, (128 + 100) << 20, "{}", node["status"]);
    assert_eq!(node["status"]["capacity"]["pods"], node["status"]["allocatable"]["pods"]);
    assert_ne!(node["status"]["capacity"]["cpu"], node["status"]["allocatable"]["cpu"]);
    Ok(())
}

/// A file of the pod's cgroup, of either cgroup version.
fn of_pod(cluster: &Cluster, pod: &str, controller: &str, v1: &str, v2: &str) -> Result<(PathBuf, String)> {
    let uid = cluster.object(&["pod", pod])?["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    let mount = PathBuf::from("/sys/fs/cgroup");
    let (root, file) = if mount.join(controller).exists() { (mount.join(controller), v1) } else { (mount, v2) };
    for ours in
        std::fs::read_dir(&root)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("sampan-"))
    {
        for class in ["kubepods", "kubepods/burstable", "kubepods/besteffort"] {
            let group = ours.path().join(class).join(format!("pod{uid}"));
            if group.exists() {
                return Ok((class.into(), std::fs::read_to_string(group.join(file))?.trim().to_owned()));
            }
        }
    }
    bail!("pod {pod} has no cgroup in {}", root.display())
}

fn classes(cluster: &Cluster) -> Result<()> {
    let brief = json!({"terminationGracePeriodSeconds": 0});
    let with = |resources: Value| {
        let mut fields = script("sleep infinity");
        fields["resources"] = resources;
        fields
    };
    create(cluster, "guaranteed", &with(json!({"limits": {"cpu": "200m", "memory": "32Mi"}})), &brief)?;
    create(cluster, "burstable", &with(json!({"requests": {"cpu": "500m"}, "limits": {"memory": "64Mi"}})), &brief)?;
    create(cluster, "besteffort", &script("sleep infinity"), &brief)?;
    let unlimited = |text: &str| text == "max" || text.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60);
    for (pod, class, limit) in [
        ("guaranteed", "kubepods", Some(32_i64 << 20)),
        ("burstable", "kubepods/burstable", Some(64 << 20)),
        ("besteffort", "kubepods/besteffort", None),
    ] {
        reaches(cluster, pod, "status.phase", "Running")?;
        let (found, memory) = of_pod(cluster, pod, "memory", "memory.limit_in_bytes", "memory.max")?;
        assert_eq!(found, PathBuf::from(class), "{pod}");
        match limit {
            Some(limit) => assert_eq!(memory, limit.to_string(), "{pod}"),
            None => assert!(unlimited(&memory), "{pod}: {memory}"),
        }
        let qos = cluster.object(&["pod", pod])?["status"]["qosClass"].clone();
        assert_eq!(qos.as_str().unwrap_or_default().to_lowercase(), pod);
        let (_, pids) = of_pod(cluster, pod, "pids", "pids.max", "pids.max")?;
        assert_eq!(pids, "40", "{pod}");
    }
    let (_, shares) = of_pod(cluster, "burstable", "cpu", "cpu.shares", "cpu.weight")?;
    assert!(shares == "512" || shares == "20", "{shares}");
    Ok(())
}

/// A bound of the pod as a whole is its containers' together, whichever of them takes what.
fn whole_pods(cluster: &Cluster) -> Result<()> {
    let whole = json!({"terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
        "resources": {"requests": {"memory": "16Mi"}, "limits": {"cpu": "1", "memory": "24Mi"}}});
    // busybox's dd holds a whole block in memory.
    let run = "if dd if=/dev/zero of=/dev/null bs=64M count=1; then echo survived; else echo killed; fi";
    create(cluster, "whole", &script(run), &whole)?;
    eventually("an end", || {
        let status = cluster.object(&["pod", "whole"])?["status"].clone();
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        ensure!(phase == "Failed" || phase == "Succeeded", "{status}");
        Ok(())
    });
    // On cgroup v2 the shell goes with it.
    let log = super::log(cluster, "whole")?;
    assert!(!log.contains("survived"), "{log}");
    let pod = cluster.object(&["pod", "whole"])?;
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    Ok(())
}

fn processes(cluster: &Cluster) -> Result<()> {
    let many = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all";
    create(cluster, "many", &script(many), &json!({"terminationGracePeriodSeconds": 0}))?;
    eventually("too many", || {
        let log = cluster.kubectl(&["logs", "many"])?;
        ensure!(log.stdout.contains("can't fork"), "{log:?}");
        Ok(())
    });
    Ok(())
}
