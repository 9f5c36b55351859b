//! What all data planes know: a pod is told to stop, and counted on, when no node is behind. The second node of these
//! tests is a Node and a Lease without a machine.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use crate::{conditions, on_a_cluster};

const REVISION: &str = "sampan.io/programmed";

fn annotations(cluster: &Cluster, namespace: &str, lease: &str) -> Result<Value> {
    Ok(cluster.object(&["lease", "-n", namespace, lease])?["metadata"]["annotations"].clone())
}

fn revision(annotations: &Value) -> u64 {
    annotations[REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The other node's data plane is this far; that it says so is a sign of life.
fn other_is_at(cluster: &Cluster, revision: &str) -> Result<()> {
    let now = cluster.node("date", &["--utc", "+%Y-%m-%dT%H:%M:%S.%6NZ"])?.ok();
    let metadata = json!({"name": "ghost", "namespace": "kube-node-lease", "annotations": {REVISION: revision}});
    cluster.apply(
        &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
                         "spec": {"renewTime": now.trim()}})
        .to_string(),
    )
}

fn publishes(cluster: &Cluster, awaited: &str) {
    eventually(&format!("{awaited} nodes are awaited"), || {
        let said = annotations(cluster, "kube-system", "sampan-programmed")?;
        ensure!(said["sampan.io/awaited"] == awaited, "{said}");
        Ok(())
    });
}

#[test]
fn pods_wait_for_the_slowest_data_plane_and_not_for_ever() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        ensure!(annotations(cluster, "kube-node-lease", "one")?.is_null(), "a node alone says nothing");
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"},
                          "status": {"conditions": conditions(&[("Ready", "True")])}});
        cluster.kubectl_input(&["create", "-f", "-"], &node.to_string())?.ok();
        publishes(cluster, "2");
        other_is_at(cluster, "1")?;
        eventually("the slowest counts", || {
            let (all, own) = (
                annotations(cluster, "kube-system", "sampan-programmed")?,
                annotations(cluster, "kube-node-lease", "one")?,
            );
            ensure!(revision(&all) == 1 && revision(&own) > 1, "{all} {own}");
            Ok(())
        });

        // It is ready long before the other node could send to it.
        let mut watch = cluster.kubectl_command(&["get", "replicasets", "-l", "run=my-nginx", "-w", "-o", "json"]);
        let mut watch = watch.stdout(Stdio::piped()).spawn().context("kubectl get -w")?;
        let output = watch.stdout.take().context("an output")?;
        let mut versions = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=3"])?.ok();
        let mut behind = false;
        loop {
            let set = versions.next().context("the watch ended")?.context("reading the watch")?;
            let status = |field: &str| set["status"][field].as_u64().unwrap_or(0);
            // The other two may have been ready for less than the bound as well.
            behind |= status("readyReplicas") == 3 && status("availableReplicas") < 3;
            if status("availableReplicas") == 3 {
                break;
            }
        }
        watch.kill().context("ending the watch")?;
        watch.wait().context("ending the watch")?;
        assert!(behind, "it was available as soon as it was ready");

        let pod = cluster.pods("run=my-nginx")?.into_keys().next().context("a pod")?;
        let began = Instant::now();
        cluster.kubectl(&["delete", "pod", &pod])?.ok();
        assert!(
            began.elapsed() >= Duration::from_secs(1),
            "it was told to stop before a second: {:?}",
            began.elapsed()
        );

        other_is_at(cluster, "999999999")?;
        eventually("this node is the slowest", || {
            let (all, own) = (
                annotations(cluster, "kube-system", "sampan-programmed")?,
                annotations(cluster, "kube-node-lease", "one")?,
            );
            ensure!(revision(&all) == revision(&own), "{all} {own}");
            Ok(())
        });
        cluster.rolled_out("my-nginx")?;
        cluster.kubectl(&["delete", "node", "ghost"])?.ok();
        publishes(cluster, "1");
        Ok(())
    });
}
