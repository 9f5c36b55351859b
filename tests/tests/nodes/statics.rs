//! Static pods of a node whose server is gone.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::{Cluster, Namespace, Options, binary, eventually, must};

#[test]
fn static_pods_run_without_the_server() {
    must((|| {
        let cluster = Cluster::start(Options { nodes: 2, ..Options::tutorial() })?;
        let nodes = cluster.nodes()?;
        for node in &nodes {
            kill(cluster.node_process(&node.name)?, Signal::SIGTERM).context("stopping a node")?;
        }
        eventually("the end of both", || {
            ensure!(cluster.kubectl(&["get", "nodes"])?.stdout.is_empty(), "the API answers");
            Ok(())
        });
        let (files, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sh", "-c", "echo alive > /out/said; sleep infinity"],
            "volumeMounts": [{"name": "out", "mountPath": "/out"}]});
        let spec = json!({"hostNetwork": true, "terminationGracePeriodSeconds": 0, "containers": [container],
            "volumes": [{"name": "out", "hostPath": {"path": out.path()}}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone"}, "spec": spec});
        std::fs::write(files.path().join("lone.json"), pod.to_string())?;
        let (own, server) = (&nodes[1], format!("https://{}:6443", nodes[0].address()));
        let mut command = Namespace::command_in(&own.namespace, binary());
        command.args(["agent", "--server", &server, "--node-name", &own.name, "--node-ip", &own.address().to_string()]);
        command.arg("--data-dir").arg(cluster.data_dir().join(&own.name)).arg("--pod-manifest-path").arg(files.path());
        let mut agent = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("starting the agent")?;
        let said = || -> Result<()> {
            eventually("the pod's word", || {
                ensure!(std::fs::read_to_string(out.path().join("said"))? == "alive\n", "not yet");
                Ok(())
            });
            Ok(())
        };
        let told = said();
        kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGTERM).context("stopping the agent")?;
        agent.wait().context("waiting for the agent's end")?;
        told?;
        cluster.finish()
    })());
}
