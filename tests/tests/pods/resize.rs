//! Pods that get more or less of the node while they run.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually, kubectls};

use super::{create, on_a_cluster, reaches, script};

fn resize(cluster: &Cluster, pod: &str, cpu: &str, memory: &str) -> Result<()> {
    let list = json!({"cpu": cpu, "memory": memory});
    let container = json!({"name": "main", "resources": {"requests": list, "limits": list}});
    let patch = json!({"spec": {"containers": [container]}}).to_string();
    let answer = cluster.kubectl(&["patch", "pod", pod, "--subresource", "resize", "--patch", &patch])?;
    ensure!(answer.success, "{answer:?}");
    Ok(())
}

/// What the container sees of its bounds: thousandths of a processor, bytes.
fn bounds(cluster: &Cluster, pod: &str) -> Result<(i64, i64)> {
    let show = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes 2>/dev/null || cat cpu.max memory.max";
    let answer = cluster.kubectl(&["exec", pod, "--", "sh", "-c", show])?;
    ensure!(answer.success, "{answer:?}");
    let numbers: Vec<&str> = answer.stdout.split_whitespace().collect();
    let (quota, memory) = (numbers[0].parse::<i64>()?, numbers[numbers.len() - 1].parse()?);
    Ok((quota / 100, memory))
}

fn condition(pod: &Value, kind: &str) -> Option<Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind).cloned()
}

#[test]
fn a_running_pod_is_resized() {
    on_a_cluster(|cluster| {
        cluster.kubectl = kubectls().remove(0);
        let list = json!({"cpu": "200m", "memory": "32Mi"});
        let mut fields = script("echo $CPU; sleep infinity");
        fields["resources"] = json!({"requests": list, "limits": list});
        fields["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        fields["env"] =
            json!([{"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]);
        create(cluster, "p", &fields, &json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1}))?;
        reaches(cluster, "p", "status.containerStatuses[0].resources.limits.cpu", "200m")?;
        reaches(cluster, "p", "status.phase", "Running")?;

        resize(cluster, "p", "300m", "32Mi")?;
        reaches(cluster, "p", "status.containerStatuses[0].resources.limits.cpu", "300m")?;
        assert_eq!(bounds(cluster, "p")?, (300, 32 << 20));
        let pod = cluster.object(&["pod", "p"])?;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "300m");
        assert_eq!(pod["status"]["observedGeneration"], pod["metadata"]["generation"]);

        resize(cluster, "p", "300m", "48Mi")?;
        reaches(cluster, "p", "status.containerStatuses[0].restartCount", "1")?;
        reaches(cluster, "p", "status.containerStatuses[0].resources.limits.memory", "48Mi")?;
        eventually("the new bounds", || {
            ensure!(bounds(cluster, "p")? == (300, 48 << 20));
            Ok(())
        });
        assert_eq!(super::log(cluster, "p")?.trim(), "300");

        resize(cluster, "p", "1000", "48Mi")?;
        eventually("that it never can", || {
            let pod = cluster.object(&["pod", "p"])?;
            let pending = condition(&pod, "PodResizePending").unwrap_or_default();
            ensure!(pending["reason"] == "Infeasible", "{pending}");
            let message = pending["message"].as_str().unwrap_or_default();
            ensure!(message.starts_with("Node didn't have enough capacity: cpu, requested: 1000000, capacity: "));
            ensure!(pod["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"] == "300m");
            Ok(())
        });
        // The scheduler counts what the pod has, not what it cannot get.
        create(cluster, "other", &script("sleep infinity"), &json!({}))?;
        reaches(cluster, "other", "status.phase", "Running")?;

        resize(cluster, "p", "250m", "48Mi")?;
        reaches(cluster, "p", "status.containerStatuses[0].resources.limits.cpu", "250m")?;
        eventually("nothing pending", || {
            let pod = cluster.object(&["pod", "p"])?;
            ensure!(condition(&pod, "PodResizePending").is_none());
            Ok(())
        });
        assert_eq!(bounds(cluster, "p")?, (250, 48 << 20));
        let events = cluster.kubectl(&["events", "--for", "pod/p"])?;
        for reason in ["ResizeStarted", "ResizeCompleted", "ResizeInfeasible"] {
            assert!(events.stdout.contains(reason), "{reason}: {}", events.stdout);
        }
        Ok(())
    });
}
