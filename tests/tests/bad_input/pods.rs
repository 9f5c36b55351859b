//! Pods that cannot run: each says why, in its status and by events, and mends itself when the cause is gone.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Cluster, Options, eventually, must, with_every_kubectl};

use crate::in_order;

fn pod(cluster: &Cluster, name: &str, spec: &str) -> Result<()> {
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - name: box\n    {spec}\n"
    ))
}

/// Waits until the pod's container waits for this reason; returns its status.
#[track_caller]
fn waits_for(cluster: &Cluster, pod: &str, reason: &str) -> Value {
    eventually(reason, || {
        let status = cluster.object(&["pod", pod])?["status"].clone();
        let container = status["containerStatuses"][0].clone();
        ensure!(container["state"]["waiting"]["reason"] == reason, "{status}");
        Ok(container)
    })
}

/// Waits until `kubectl describe` tells of the pod what it should, in its events.
#[track_caller]
fn described(cluster: &Cluster, pod: &str, needles: &[&str]) {
    eventually("the events", || {
        let text = cluster.kubectl(&["describe", "pod", pod])?.ok();
        let events = text.split_once("\nEvents:").map(|(_, events)| events.to_owned()).unwrap_or_default();
        for needle in needles {
            ensure!(events.contains(needle), "{needle:?} is missing in:\n{text}");
        }
        Ok(())
    });
}

#[test]
fn an_image_that_cannot_be_had_is_told() {
    let options = Options { images: vec!["busybox"], ..Options::default() };
    must(with_every_kubectl(&options, |cluster| {
        // From before the pod on, so that no state it passes through is missed.
        let pods = cluster.kubectl(&["get", "--raw", "/api/v1/namespaces/default/pods"])?.ok();
        let pods: Value = serde_json::from_str(&pods)?;
        let version = pods["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("/api/v1/namespaces/default/pods?watch=true&resourceVersion={version}");
        let mut watch = cluster.session(&["get", "--raw", &path])?;
        // Nothing listens there.
        pod(cluster, "none", "image: localhost:1/none:1")?;
        watch.expect("\"reason\":\"ErrImagePull\"")?;
        watch.expect("\"reason\":\"ImagePullBackOff\"")?;
        let waiting = waits_for(cluster, "none", "ImagePullBackOff");
        let message = waiting["state"]["waiting"]["message"].as_str().unwrap_or_default();
        in_order(message, &["Back-off pulling image \"localhost:1/none:1\""]);
        assert_eq!((&waiting["ready"], &waiting["restartCount"]), (&false.into(), &0.into()));
        described(
            cluster,
            "none",
            &[
                "Scheduled",
                "Pulling image \"localhost:1/none:1\"",
                "Failed to pull image \"localhost:1/none:1\": ",
                "Error: ErrImagePull",
                "Back-off pulling image \"localhost:1/none:1\"",
                "Error: ImagePullBackOff",
            ],
        );
        let listed = cluster.kubectl(&["get", "pod", "none", "--no-headers"])?.ok();
        in_order(&listed, &["none", "0/1", "ImagePullBackOff", "0"]);

        pod(cluster, "never", "image: localhost/none:1\n    imagePullPolicy: Never")?;
        waits_for(cluster, "never", "ErrImageNeverPull");
        described(cluster, "never", &["Container image \"localhost/none:1\" is not present with pull policy of Never"]);
        pod(cluster, "misnamed", "image: \"UPPER//case\"")?;
        waits_for(cluster, "misnamed", "InvalidImageName");
        described(cluster, "misnamed", &["InspectFailed", "UPPER//case"]);

        // Mended by a change of the image alone.
        let image = r#"{"spec":{"containers":[{"name":"box","image":"busybox:1.37"}]}}"#;
        cluster.kubectl(&["patch", "pod", "never", "-p", image])?.ok();
        eventually("the container runs", || {
            let status = cluster.object(&["pod", "never"])?["status"].clone();
            ensure!(!status["containerStatuses"][0]["containerID"].is_null(), "{status}");
            Ok(())
        });
        still_up(cluster)
    }));
}

#[test]
fn a_container_that_cannot_go_on_is_told() {
    let options = Options { images: vec!["busybox"], ..Options::default() };
    must(with_every_kubectl(&options, |cluster| {
        pod(cluster, "crash", "image: busybox:1.37\n    command: [sh, -c, exit 3]")?;
        pod(cluster, "typo", "image: busybox:1.37\n    command: [/no/such/program]")?;
        let reference = "valueFrom: {configMapKeyRef: {name: settings, key: colour}}";
        let command = "command: [sh, -c, \"echo $COLOUR; trap exit TERM; sleep 1000 & wait\"]";
        pod(
            cluster,
            "unset",
            &format!("image: busybox:1.37\n    {command}\n    env: [{{name: COLOUR, {reference}}}]"),
        )?;

        let crash = waits_for(cluster, "crash", "CrashLoopBackOff");
        let ended = &crash["lastState"]["terminated"];
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&3.into(), &"Error".into()));
        let message = crash["state"]["waiting"]["message"].as_str().unwrap_or_default();
        in_order(message, &["back-off ", "restarting failed container=box pod=crash_default("]);
        described(cluster, "crash", &["BackOff", "Back-off restarting failed container box in pod crash_default("]);
        let listed = cluster.kubectl(&["get", "pod", "crash", "--no-headers"])?.ok();
        in_order(&listed, &["crash", "0/1", "CrashLoopBackOff"]);

        let typo = waits_for(cluster, "typo", "CrashLoopBackOff");
        let ended = &typo["lastState"]["terminated"];
        assert_eq!((&ended["exitCode"], &ended["reason"]), (&128.into(), &"StartError".into()));
        in_order(ended["message"].as_str().unwrap_or_default(), &["/no/such/program", "no such file or directory"]);
        described(cluster, "typo", &["Failed", "/no/such/program"]);

        let unset = waits_for(cluster, "unset", "CreateContainerConfigError");
        assert_eq!(unset["state"]["waiting"]["message"], "configmap \"settings\" not found");
        described(cluster, "unset", &["Error: configmap \"settings\" not found"]);
        cluster.kubectl(&["create", "configmap", "settings", "--from-literal=colour=red"])?.ok();
        cluster.kubectl(&["wait", "pod/unset", "--for=condition=Ready", "--timeout=60s"])?.ok();
        assert_eq!(cluster.kubectl(&["logs", "unset"])?.ok(), "red\n");
        still_up(cluster)
    }));
}

#[test]
fn a_pod_that_fits_nowhere_waits_and_says_so() {
    must((|| {
        let cluster = Cluster::start(Options { images: vec!["busybox"], ..Options::default() })?;
        let running = "image: busybox:1.37\n    command: [sh, -c, \"trap exit TERM; sleep 1000 & wait\"]";
        pod(&cluster, "huge", &format!("{running}\n    resources: {{requests: {{cpu: \"1000\"}}}}"))?;
        pod(&cluster, "picky", &format!("{running}\n  nodeSelector: {{disk: fast}}"))?;
        for (name, why) in [
            ("huge", "0/1 nodes are available: 1 Insufficient cpu"),
            ("picky", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector"),
        ] {
            described(&cluster, name, &["FailedScheduling", why]);
            let status = cluster.object(&["pod", name])?["status"].clone();
            assert_eq!(status["phase"], "Pending");
            let condition = &status["conditions"][0];
            assert_eq!(
                (&condition["type"], &condition["status"], &condition["reason"]),
                (&"PodScheduled".into(), &"False".into(), &"Unschedulable".into())
            );
            in_order(condition["message"].as_str().unwrap_or_default(), &[why]);
        }
        cluster.kubectl(&["label", "node", "one", "disk=fast"])?.ok();
        cluster.kubectl(&["wait", "pod/picky", "--for=condition=Ready", "--timeout=60s"])?.ok();
        cluster.finish()
    })());
}

fn still_up(cluster: &Cluster) -> Result<()> {
    assert_eq!(cluster.kubectl(&["get", "--raw", "/readyz"])?.ok(), "ok");
    cluster.kubectl(&["wait", "node/one", "--for=condition=Ready", "--timeout=10s"])?.ok();
    Ok(())
}
