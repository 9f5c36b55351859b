//! A node whose containers run at containerd: what is its own there. Most of it is tested by the tests of pods, services and
//! the tutorial, which run on either runtime (`SAMPAN_TEST_RUNTIME=containerd`, the profile `containerd` of nextest).

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::{Cluster, Options, eventually, must};

fn on_containerd(test: impl FnOnce(&mut Cluster) -> Result<()>) {
    must((|| {
        let options = Options { images: vec!["busybox"], containerd: true, ..Options::default() };
        let mut cluster = Cluster::start(options)?;
        test(&mut cluster)?;
        cluster.finish()
    })());
}

fn pod(cluster: &Cluster, name: &str, script: &str) -> Result<()> {
    let arguments = ["run", name, "--image=busybox:1.37", "--command", "--", "sh", "-c", script];
    cluster.kubectl(&arguments)?.ok();
    cluster.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"])?.ok();
    Ok(())
}

fn restarts(cluster: &Cluster, name: &str) -> Result<u64> {
    let pod = cluster.object(&["pod", name])?;
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().context("a restart count")
}

fn field(cluster: &Cluster, kind: &str, name: &str, path: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", kind, name, "-o", &format!("jsonpath={{{path}}}")])?.ok())
}

fn containers(cluster: &Cluster) -> Result<String> {
    cluster.containerd.as_ref().context("containerd")?.ctr(&["containers", "ls"])
}

#[test]
fn containers_are_at_containerd_and_outlive_everybody() {
    on_containerd(|cluster| {
        let version = field(cluster, "node", "one", ".status.nodeInfo.containerRuntimeVersion")?;
        ensure!(version.starts_with("containerd://1."), "{version}");
        assert_eq!(field(cluster, "node", "one", ".status.runtimeHandlers[0].features.userNamespaces")?, "false");
        pod(cluster, "web", "echo up; while [ ! -e /end ]; do sleep 0.1; done; exit 3")?;
        let id = field(cluster, "pod", "web", ".status.containerStatuses[0].containerID")?;
        let bare = id.strip_prefix("containerd://").with_context(|| format!("{id} is not containerd's"))?;
        ensure!(containers(cluster)?.contains(bare), "{id} is not at containerd");

        cluster.stop_server(Signal::SIGKILL)?;
        cluster.start_server()?;
        cluster.kubectl(&["wait", "--for=condition=Ready", "node/one", "pod/web", "--timeout=60s"])?.ok();
        assert_eq!(field(cluster, "pod", "web", ".status.containerStatuses[0].containerID")?, id);

        let mut containerd = cluster.containerd.take().context("containerd")?;
        containerd.restart(&cluster.namespace)?;
        cluster.containerd = Some(containerd);
        eventually("a node that is ready again", || {
            let ready = field(cluster, "node", "one", ".status.conditions[?(@.type==\"Ready\")].status")?;
            ensure!(ready == "True", "{ready}");
            // It is asked again.
            ensure!(cluster.kubectl(&["exec", "web", "--", "true"])?.success);
            Ok(())
        });
        assert_eq!(restarts(cluster, "web")?, 0);
        // Ends are noticed as before.
        cluster.kubectl(&["exec", "web", "--", "touch", "/end"])?.ok();
        eventually("another instance", || {
            ensure!(restarts(cluster, "web")? >= 1);
            Ok(())
        });
        let ended = field(cluster, "pod", "web", ".status.containerStatuses[0].lastState.terminated.exitCode")?;
        assert_eq!(ended, "3");
        Ok(())
    });
}

/// What somebody does to the runtime behind the node's back is mended.
#[test]
fn what_is_removed_at_containerd_is_made_again() {
    on_containerd(|cluster| {
        pod(cluster, "web", "sleep 10000")?;
        let id = field(cluster, "pod", "web", ".status.containerStatuses[0].containerID")?;
        let bare = id.trim_start_matches("containerd://").to_owned();
        cluster.containerd.as_ref().context("containerd")?.ctr(&["tasks", "kill", "--signal", "SIGKILL", &bare])?;
        eventually("another instance", || {
            let now = field(cluster, "pod", "web", ".status.containerStatuses[0].containerID")?;
            let ready = field(cluster, "pod", "web", ".status.containerStatuses[0].ready")?;
            ensure!(now != id && ready == "true", "{now} {ready}");
            Ok(())
        });
        assert_eq!(restarts(cluster, "web")?, 1);
        Ok(())
    });
}
