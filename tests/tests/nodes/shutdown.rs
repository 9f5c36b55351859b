//! A node that goes down in good order (`sampan drain`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Load, Place, eventually, must};

use crate::three;

const ENOUGH: usize = 200;

fn pod(cluster: &Cluster, name: &str, node: &str, script: &str, spec: &Value) -> Result<()> {
    let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", script]});
    let mut whole = json!({"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]});
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}).to_string())
}

fn ready(cluster: &Cluster, node: &str) -> Result<Value> {
    let node = cluster.object(&["node", node])?;
    let conditions = node["status"]["conditions"].as_array().context("conditions")?;
    conditions.iter().find(|one| one["type"] == "Ready").cloned().context("Ready")
}

#[test]
fn a_node_that_goes_down_ends_its_pods_in_order_and_fails_no_connection() {
    must((|| {
        let cluster = three()?;
        cluster.run_my_nginx()?;
        cluster.kubectl(&["scale", "deployment/my-nginx", "--replicas=6"])?.ok();
        cluster.rolled_out("my-nginx")?;
        cluster.kubectl(&["expose", "deployment/my-nginx"])?.ok();
        let nodes = cluster.nodes()?;
        let second = &nodes[1];
        let slow = json!({"terminationGracePeriodSeconds": 60});
        // It says when it was told to end, and takes three seconds.
        let script = "trap 'date +%s; sleep 3; exit 0' TERM; while true; do sleep 0.2; done";
        pod(&cluster, "slow", &second.name, script, &slow)?;
        pod(&cluster, "critical", &second.name, script, &json!({"priorityClassName": "system-node-critical"}))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/slow", "pod/critical", "--timeout=60s"])?.ok();

        let service = cluster.service("my-nginx")?;
        let loads = [("n1", &nodes[0]), ("n2", second)]
            .map(|(name, node)| Ok((name, Load::start(&Arc::new(Place::of(node)?), service))));
        let loads = loads.into_iter().collect::<Result<Vec<_>>>()?;
        let go_on = || loads.iter().for_each(|(_, load)| load.go_on_for(ENOUGH));
        go_on();
        let data = cluster.data_dir().join(&second.name);
        let drain = ["drain", "--data-dir", &data.to_string_lossy()].map(str::to_owned);
        let drain: Vec<&str> = drain.iter().map(String::as_str).collect();
        let started = Instant::now();
        let said = cluster.sampan_on(second, &drain)?.ok();
        ensure!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
        assert!(
            said.trim_end().ends_with("all pods have ended; the node takes no more until it is started again"),
            "{said}"
        );
        let at = |line: &str| said.find(line).with_context(|| format!("{line:?} in {said}"));
        assert!(at("pod default/slow has ended")? < at("ending one pod, in 10 s at most")?, "{said}");
        assert!(at("ending one pod, in 10 s at most")? < at("pod default/critical has ended")?, "{said}");
        cluster.rolled_out("my-nginx")?;
        go_on();
        for (from, load) in loads {
            load.stop().assert_perfect(from);
        }

        for name in ["slow", "critical"] {
            let status = cluster.object(&["pod", name])?["status"].clone();
            assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")), "{status}");
            assert_eq!(status["message"], "Pod was terminated in response to imminent node shutdown.");
            assert_eq!(
                status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0,
                "it had its time: {status}"
            );
            let target = status["conditions"].as_array().context("conditions")?.iter();
            let target = target.filter(|one| one["type"] == "DisruptionTarget").collect::<Vec<_>>();
            assert_eq!((target.len(), &target[0]["reason"]), (1, &json!("TerminationByKubelet")), "{status}");
        }
        let said = ready(&cluster, &second.name)?;
        assert_eq!((&said["status"], &said["message"]), (&json!("False"), &json!("node is shutting down")));
        pod(&cluster, "late", &second.name, "sleep infinity", &json!({}))?;
        eventually("the late pod is refused", || {
            let status = cluster.object(&["pod", "late"])?["status"].clone();
            ensure!(status["reason"] == "NodeShutdown", "{status}");
            assert_eq!(status["message"], "Pod was rejected: Pod was rejected as the node is shutting down.");
            Ok(())
        });
        // Asked again it says the same; started again it is as any other.
        cluster.sampan_on(second, &drain)?.ok();
        cluster.restart_node(second, |_| Ok(()))?;
        eventually("the node is ready again", || {
            let said = ready(&cluster, &second.name)?;
            ensure!(said["status"] == "True", "{said}");
            Ok(())
        });
        pod(&cluster, "next", &second.name, "sleep infinity", &json!({"terminationGracePeriodSeconds": 0}))?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "pod/next", "--timeout=60s"])?.ok();
        let nobody = cluster.sampan_on(second, &["drain", "--data-dir", "/nonexistent"])?;
        assert_eq!(nobody.code, Some(1));
        assert!(nobody.error().contains("no node listens at /nonexistent/agent/drain.sock"));
        cluster.finish()
    })());
}
