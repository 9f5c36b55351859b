//! Cordon, drain, and budgets of disruption.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, eventually};

use crate::{has_taints, on_a_cluster};

#[test]
fn cordon_keeps_pods_off_and_uncordon_lets_them_in() {
    on_a_cluster(|cluster| {
        has_taints(cluster, "one", &[]);
        cluster.kubectl(&["cordon", "one"])?.ok();
        has_taints(cluster, "one", &["node.kubernetes.io/unschedulable:NoSchedule"]);
        let run = ["run", "waits", "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "infinity"];
        cluster.kubectl(&run)?.ok();
        let pending = "--for=condition=PodScheduled=false";
        cluster.kubectl(&["wait", pending, "pod/waits", "--timeout=20s"])?.ok();
        cluster.kubectl(&["uncordon", "one"])?.ok();
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/waits", "--timeout=20s"])?.ok();
        has_taints(cluster, "one", &[]);
        Ok(())
    });
}

fn status(cluster: &Cluster, kind: &str, name: &str) -> Result<Value> {
    Ok(cluster.object(&[kind, name])?["status"].clone())
}

/// currentHealthy, desiredHealthy, expectedPods, disruptionsAllowed.
fn budget_is(cluster: &Cluster, wanted: [u64; 4]) {
    eventually(&format!("the budget's numbers are {wanted:?}"), || {
        let status = status(cluster, "pdb", "web")?;
        let fields = ["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"];
        let found = fields.map(|field| status[field].as_u64().unwrap_or(0));
        ensure!(found == wanted, "{status}");
        Ok(())
    });
}

#[test]
fn a_drain_evicts_no_more_than_the_budget_allows() {
    on_a_cluster(|cluster| {
        cluster.run_my_nginx()?;
        let spec = json!({"maxUnavailable": "50%", "selector": {"matchLabels": {"run": "my-nginx"}}});
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"}, "spec": spec});
        cluster.apply(&budget.to_string())?;
        budget_is(cluster, [2, 1, 2, 1]);
        let condition = status(cluster, "pdb", "web")?["conditions"][0].clone();
        assert_eq!((&condition["type"], &condition["reason"]), (&json!("DisruptionAllowed"), &json!("SufficientPods")));

        // One may go; nothing can take its place on a node that is cordoned, so the other stays.
        let drain = cluster.kubectl(&["drain", "one", "--ignore-daemonsets", "--timeout=8s"])?;
        ensure!(!drain.success, "drained all:\n{}", drain.stdout);
        assert!(drain.stderr.contains("violate the pod's disruption budget"), "{}", drain.stderr);
        has_taints(cluster, "one", &["node.kubernetes.io/unschedulable:NoSchedule"]);
        budget_is(cluster, [1, 1, 2, 0]);
        cluster.kubectl(&["uncordon", "one"])?.ok();
        cluster.rolled_out("my-nginx")?;
        budget_is(cluster, [2, 1, 2, 1]);

        // What is evicted is marked so, and counts as going at once.
        let name = cluster.pods("run=my-nginx")?.into_keys().next().context("a pod")?;
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        let file = cluster.write("eviction.json", &eviction.to_string())?;
        let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
        cluster.kubectl(&["create", "--raw", &path, "-f", &file])?.ok();
        cluster.rolled_out("my-nginx")?;
        budget_is(cluster, [2, 1, 2, 1]);
        Ok(())
    });
}
