//! A node that is not heard of any more, and one that is and is said not to be.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use crate::{condition, conditions, has_event, has_taints, on_a_cluster, taints};

/// A pod that is bound to a node which nobody runs, and is said to be ready there.
fn lodger(cluster: &Cluster, name: &str, tolerations: &Value) -> Result<()> {
    let spec = json!({
        "nodeName": "ghost", "tolerations": tolerations,
        "containers": [{"name": "main", "image": "busybox:1.37"}],
    });
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string())?;
    let status = json!({"status": {"phase": "Running", "conditions": conditions(&[("Ready", "True")])}}).to_string();
    cluster.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status])?.ok();
    Ok(())
}

fn gone(cluster: &Cluster, pod: &str) -> Result<()> {
    cluster.kubectl(&["wait", "--for=delete", &format!("pod/{pod}"), "--timeout=60s"])?.ok();
    Ok(())
}

#[test]
fn a_node_that_falls_silent_and_is_removed_takes_its_pods_along() {
    on_a_cluster(|cluster| {
        let said = conditions(&[("Ready", "True"), ("MemoryPressure", "True")]);
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"}, "status": {"conditions": said}});
        // Not `apply`: a node says how it is when it registers.
        cluster.kubectl_input(&["create", "-f", "-"], &node.to_string())?.ok();
        has_taints(cluster, "ghost", &["node.kubernetes.io/memory-pressure:NoSchedule"]);
        has_event(cluster, "ghost", "RegisteredNode", "Node ghost event: Registered Node ghost in Controller");

        let forever = json!([{"operator": "Exists"}]);
        let seconds = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}]);
        lodger(cluster, "patient", &forever)?;
        lodger(cluster, "hasty", &seconds)?;
        let unknown = "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=Unknown";
        cluster.kubectl(&["wait", unknown, "node/ghost", "--timeout=90s"])?.ok();
        let ready = condition(&cluster.object(&["node", "ghost"])?, "Ready");
        assert_eq!(ready["reason"], "NodeStatusUnknown");
        assert_eq!(ready["message"], "Kubelet stopped posting node status.");
        let never = condition(&cluster.object(&["node", "ghost"])?, "DiskPressure");
        assert_eq!(never["reason"], "NodeStatusNeverUpdated");
        has_event(cluster, "ghost", "NodeNotReady", "Node ghost status is now: NodeNotReady");
        let unreachable = ["NoSchedule", "NoExecute"].map(|effect| format!("node.kubernetes.io/unreachable:{effect}"));
        has_taints(cluster, "ghost", &unreachable.each_ref().map(String::as_str));

        eventually("the pods are not ready", || {
            for name in ["patient", "hasty"] {
                let ready = condition(&cluster.object(&["pod", name])?, "Ready");
                ensure!(ready["status"] == "False", "{name}: {ready}");
            }
            Ok(())
        });
        has_event(cluster, "patient", "NodeNotReady", "Node is not ready");
        has_event(cluster, "hasty", "TaintManagerEviction", "Marking for deletion Pod default/hasty");
        eventually("the hasty one leaves", || {
            let pod = cluster.object(&["pod", "hasty"])?;
            ensure!(pod["metadata"]["deletionTimestamp"].is_string(), "{}", pod["metadata"]);
            let target = condition(&pod, "DisruptionTarget");
            ensure!(target["reason"] == "DeletionByTaintManager", "{target}");
            Ok(())
        });
        assert!(cluster.object(&["pod", "patient"])?["metadata"]["deletionTimestamp"].is_null());

        // Nobody will say that it has ended, until an administrator does.
        cluster.kubectl(&["taint", "node", "ghost", "node.kubernetes.io/out-of-service=off:NoSchedule"])?.ok();
        gone(cluster, "hasty")?;
        assert!(cluster.object(&["pod", "patient"])?["metadata"]["deletionTimestamp"].is_null());
        cluster.kubectl(&["delete", "node", "ghost"])?.ok();
        has_event(cluster, "ghost", "RemovingNode", "Node ghost event: Removing Node ghost from Controller");
        gone(cluster, "patient")
    });
}

#[test]
fn a_running_node_contradicts_who_says_that_it_is_gone() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        let status = json!({"status": {"conditions": conditions(&[("Ready", "Unknown")])}}).to_string();
        cluster.kubectl(&["patch", "node", "one", "--subresource=status", "-p", &status])?.ok();
        has_event(cluster, "one", "RegisteredNode", "Node one event: Registered Node one in Controller");
        eventually("the node and its pods are ready again", || {
            let ready = condition(&cluster.object(&["node", "one"])?, "Ready");
            ensure!(ready["status"] == "True" && ready["reason"] == "KubeletReady", "{ready}");
            ensure!(taints(cluster, "one")?.is_empty(), "{:?}", taints(cluster, "one")?);
            for name in cluster.pods("run=my-nginx")?.keys() {
                let ready = condition(&cluster.object(&["pod", name])?, "Ready");
                ensure!(ready["status"] == "True", "{name}: {ready}");
            }
            Ok(())
        });

        let name = cluster.pods("run=my-nginx")?.into_keys().next().context("a pod")?;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}).to_string();
        cluster.kubectl(&["patch", "pod", &name, "--subresource=status", "-p", &status])?.ok();
        cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=20s"])?.ok();
        Ok(())
    });
}
