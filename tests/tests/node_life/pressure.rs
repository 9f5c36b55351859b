//! A node that runs short: what it says, who goes, who is refused, and that it passes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Options, eventually, must};

use crate::{condition, has_event, has_taints};

/// For all pods together.
const PODS_MEMORY: u64 = 256 << 20;

/// Creates a pod of one busybox container with an emptyDir of that medium at /room.
fn create(cluster: &Cluster, name: &str, script: &str, medium: &str, spec: &Value) -> Result<()> {
    let container = json!({
        "name": "main", "image": "busybox:1.37", "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "room", "mountPath": "/room"}],
        "resources": spec["asks"],
    });
    let mut pod = json!({
        "containers": [container], "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "room", "emptyDir": {"medium": medium}}],
    });
    for (field, value) in spec.as_object().into_iter().flatten().filter(|(field, _)| *field != "asks") {
        pod[field] = value.clone();
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod});
    cluster.apply(&pod.to_string())
}

fn pod_is(cluster: &Cluster, pod: &str, phase: &str, reason: &str) -> Result<()> {
    eventually(&format!("{pod} is {phase} {reason}"), || {
        let status = cluster.object(&["pod", pod])?["status"].clone();
        let found = (status["phase"].as_str().unwrap_or_default(), status["reason"].as_str().unwrap_or_default());
        ensure!(found == (phase, reason), "{status}");
        Ok(())
    });
    Ok(())
}

/// Waits for the status and the reason of the node's condition.
fn node_says(cluster: &Cluster, kind: &str, status: &str, reason: &str) {
    eventually(&format!("{kind} is {status}"), || {
        let said = condition(&cluster.object(&["node", "one"])?, kind);
        ensure!(said["status"] == status && said["reason"] == reason, "{said}");
        Ok(())
    });
}

fn fill(mebibytes: u64) -> String {
    format!("dd if=/dev/zero of=/room/f bs=1M count={mebibytes} 2>/dev/null; sleep infinity")
}

#[test]
fn short_of_memory_it_says_so_ends_the_greediest_pod_and_recovers() {
    must((|| {
        let mut options = Options::tutorial();
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let reserved = total.context("MemTotal")?.parse::<u64>()? * 1024 - PODS_MEMORY;
        options.arguments = [
            &format!("--system-reserved=memory={reserved}"),
            "--eviction-hard=allocatableMemory.available<150Mi",
            "--eviction-pressure-transition-period=20s",
        ]
        .map(ToString::to_string)
        .to_vec();
        let cluster = Cluster::start(options)?;
        // It asks for more than it takes, so it stays, though it is the least important.
        let modest = json!({"asks": {"requests": {"memory": "64Mi"}}});
        create(&cluster, "modest", "sleep infinity", "Memory", &modest)?;
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 7});
        cluster.apply(&class.to_string())?;
        create(&cluster, "important", &fill(10), "Memory", &json!({"priorityClassName": "high"}))?;
        create(&cluster, "greedy", &fill(120), "Memory", &json!({}))?;
        pod_is(&cluster, "greedy", "Failed", "Evicted")?;
        node_says(&cluster, "MemoryPressure", "True", "KubeletHasInsufficientMemory");
        has_taints(&cluster, "one", &["node.kubernetes.io/memory-pressure:NoSchedule"]);

        let status = cluster.object(&["pod", "greedy"])?["status"].clone();
        let message = status["message"].as_str().context("a message")?.to_owned();
        assert!(message.starts_with("The node was low on resource: memory. Threshold quantity: 150Mi, available: "));
        assert!(message.contains("Container main was using ") && message.contains(", request is 0, "), "{message}");
        let target = condition(&json!({ "status": status }), "DisruptionTarget");
        assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
        assert_eq!(target["message"].as_str(), Some(message.as_str()));
        has_event(&cluster, "greedy", "Evicted", &message);
        let events = cluster.object(&["events", "--field-selector", "involvedObject.name=greedy,reason=Evicted"])?;
        let annotations = &events["items"][0]["metadata"]["annotations"];
        assert_eq!(annotations["offending_containers"], "main", "{events}");
        assert_eq!(annotations["starved_resource"], "memory", "{events}");
        has_event(&cluster, "one", "EvictionThresholdMet", "Attempting to reclaim memory");
        has_event(&cluster, "one", "NodeHasInsufficientMemory", "Node one status is now: NodeHasInsufficientMemory");

        // Who names the node comes past the scheduler, and is asked by the node itself.
        let here = |more: Value| {
            let mut spec = json!({"nodeName": "one"});
            spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
            spec
        };
        create(&cluster, "refused", "sleep infinity", "", &here(json!({})))?;
        pod_is(&cluster, "refused", "Failed", "Evicted")?;
        assert_eq!(
            cluster.object(&["pod", "refused"])?["status"]["message"],
            "Pod was rejected: The node had condition: [MemoryPressure]. "
        );
        create(&cluster, "asks", "sleep infinity", "", &here(json!({"asks": {"requests": {"memory": "1Mi"}}})))?;
        pod_is(&cluster, "asks", "Running", "")?;
        create(&cluster, "waits", "sleep infinity", "", &json!({}))?;
        cluster.kubectl(&["wait", "--for=condition=PodScheduled=false", "pod/waits", "--timeout=20s"])?.ok();

        // What the evicted pod had is free again: nobody else went, and who waited comes in.
        node_says(&cluster, "MemoryPressure", "False", "KubeletHasSufficientMemory");
        has_taints(&cluster, "one", &[]);
        has_event(&cluster, "one", "NodeHasSufficientMemory", "Node one status is now: NodeHasSufficientMemory");
        for pod in ["waits", "modest", "important"] {
            pod_is(&cluster, pod, "Running", "")?;
        }
        cluster.kubectl(&["logs", "greedy"])?.ok();
        cluster.finish()
    })());
}

#[test]
fn a_full_disk_costs_the_pod_that_filled_it_and_no_other() {
    must((|| {
        let mut options = Options { disk: Some(400), ..Options::tutorial() };
        options.images = vec!["busybox"];
        options.arguments = ["--eviction-hard=nodefs.available<60%", "--eviction-pressure-transition-period=15s"]
            .map(str::to_owned)
            .to_vec();
        let cluster = Cluster::start(options)?;
        create(&cluster, "quiet", "sleep infinity", "", &json!({}))?;
        pod_is(&cluster, "quiet", "Running", "")?;
        create(&cluster, "filler", &fill(220), "", &json!({}))?;
        pod_is(&cluster, "filler", "Failed", "Evicted")?;
        node_says(&cluster, "DiskPressure", "True", "KubeletHasDiskPressure");
        has_taints(&cluster, "one", &["node.kubernetes.io/disk-pressure:NoSchedule"]);
        let message = cluster.object(&["pod", "filler"])?["status"]["message"].clone();
        let message = message.as_str().context("a message")?;
        assert!(
            message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "),
            "{message}"
        );
        has_event(&cluster, "one", "EvictionThresholdMet", "Attempting to reclaim ephemeral-storage");
        has_event(&cluster, "one", "NodeHasDiskPressure", "Node one status is now: NodeHasDiskPressure");
        // Not even who asks for memory is taken now.
        create(&cluster, "refused", "true", "", &json!({"nodeName": "one", "asks": {"requests": {"memory": "1Mi"}}}))?;
        pod_is(&cluster, "refused", "Failed", "Evicted")?;
        node_says(&cluster, "DiskPressure", "False", "KubeletHasNoDiskPressure");
        has_taints(&cluster, "one", &[]);
        pod_is(&cluster, "quiet", "Running", "")?;
        cluster.finish()
    })());
}

#[test]
fn short_of_processes_it_ends_pods_by_priority() {
    must((|| {
        let mut options = Options::tutorial();
        // More than there can ever be.
        options.arguments =
            ["--eviction-soft=pid.available<1000000000", "--eviction-soft-grace-period=pid.available=15s"]
                .map(str::to_owned)
                .to_vec();
        let cluster = Cluster::start(options)?;
        node_says(&cluster, "PIDPressure", "True", "KubeletHasInsufficientPID");
        has_taints(&cluster, "one", &["node.kubernetes.io/pid-pressure:NoSchedule"]);
        let tolerant = |class: &str| {
            json!({"priorityClassName": class, "terminationGracePeriodSeconds": 3, "nodeName": "one",
                   "tolerations": [{"operator": "Exists"}]})
        };
        // The node's own are taken, and stay.
        create(&cluster, "critical", "sleep infinity", "", &tolerant("system-node-critical"))?;
        pod_is(&cluster, "critical", "Running", "")?;
        create(&cluster, "refused", "sleep infinity", "", &tolerant(""))?;
        pod_is(&cluster, "refused", "Failed", "Evicted")?;
        has_event(&cluster, "one", "EvictionThresholdMet", "Attempting to reclaim pids");
        pod_is(&cluster, "critical", "Running", "")?;
        cluster.finish()
    })());
}
