//! DaemonSets.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use crate::on_a_cluster;

fn daemon(label: &str) -> String {
    let container = json!({"name": "main", "image": "busybox:1.37",
                           "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]});
    let template =
        json!({"metadata": {"labels": {"app": "agent", "colour": label}}, "spec": {"containers": [container]}});
    let spec = json!({"selector": {"matchLabels": {"app": "agent"}}, "template": template});
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": spec}).to_string()
}

/// The names of its pods that are not being deleted.
fn pods(cluster: &Cluster) -> Result<Vec<Value>> {
    let list = cluster.object(&["pods", "-l", "app=agent"])?;
    let all = list["items"].as_array().context("a list")?;
    Ok(all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned().collect())
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["rollout", "status", "daemonset/agent", "--timeout=60s"])?.ok();
    Ok(())
}

#[test]
fn a_daemon_runs_on_each_node_and_is_updated_and_undone() {
    on_a_cluster(|cluster| {
        cluster.kubectl(&["cordon", "one"])?.ok();
        cluster.apply(&daemon("red"))?;
        rolled_out(cluster)?;
        let first = pods(cluster)?;
        assert_eq!(first.len(), 1);
        assert_eq!(first[0]["spec"]["nodeName"], "one", "a cordoned node runs its daemons");
        cluster.kubectl(&["uncordon", "one"])?.ok();

        cluster.apply(&daemon("blue"))?;
        rolled_out(cluster)?;
        let second = pods(cluster)?;
        assert_eq!((second.len(), &second[0]["metadata"]["labels"]["colour"]), (1, &json!("blue")));
        let history = cluster.kubectl(&["rollout", "history", "daemonset/agent"])?.ok();
        tests::in_order(&history, &["REVISION", "1", "2"]);
        cluster.kubectl(&["rollout", "undo", "daemonset/agent"])?.ok();
        rolled_out(cluster)?;
        assert_eq!(pods(cluster)?[0]["metadata"]["labels"]["colour"], "red");
        let history = cluster.kubectl(&["rollout", "history", "daemonset/agent"])?.ok();
        tests::in_order(&history, &["REVISION", "2", "3"]);

        // A node that comes is served, one that it does not want is left.
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"},
                          "status": {"conditions": crate::conditions(&[("Ready", "True")])}});
        cluster.kubectl_input(&["create", "-f", "-"], &node.to_string())?.ok();
        eventually("two are wanted", || {
            let status = cluster.object(&["daemonset", "agent"])?["status"].clone();
            ensure!(status["desiredNumberScheduled"] == 2 && status["numberReady"] == 1, "{status}");
            ensure!(pods(cluster)?.len() == 2, "{:?}", pods(cluster)?.len());
            Ok(())
        });
        cluster.kubectl(&["taint", "node", "ghost", "only=others:NoExecute"])?.ok();
        eventually("one is wanted", || {
            let status = cluster.object(&["daemonset", "agent"])?["status"].clone();
            ensure!(status["desiredNumberScheduled"] == 1 && pods(cluster)?.len() == 1, "{status}");
            Ok(())
        });
        cluster.kubectl(&["delete", "node", "ghost"])?.ok();

        cluster.kubectl(&["delete", "daemonset", "agent"])?.ok();
        cluster.kubectl(&["wait", "--for=delete", "pod", "-l", "app=agent", "--timeout=60s"])?.ok();
        eventually("its revisions go with it", || {
            let left = cluster.object(&["controllerrevisions"])?;
            ensure!(left["items"] == json!([]), "{left}");
            Ok(())
        });
        Ok(())
    });
}
